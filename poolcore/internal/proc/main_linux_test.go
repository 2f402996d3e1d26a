package proc_test

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/llorch/llorch/poolcore/internal/proc"
)

const stubWord = "proc-stub"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == stubWord {
		os.Exit(stub(os.Args[2:]))
	}
	// Orphans of the tests become our children, so that they can be reaped.
	const setChildSubreaper = 36
	_, _, _ = syscall.Syscall(syscall.SYS_PRCTL, setChildSubreaper, 1, 0)
	os.Exit(m.Run())
}

// stub is a process with the faults that its words name; it says "up" when all of
// them are in place.
func stub(words []string) int {
	for _, w := range words {
		name, arg, _ := strings.Cut(w, ":")
		switch name {
		case "ignore-term":
			signal.Ignore(syscall.SIGTERM)
		case "child", "child-setsid":
			cmd := exec.Command(os.Args[0], stubWord, "ignore-term")
			cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: name == "child-setsid"}
			if cmd.Start() != nil {
				return 1
			}
		case "listen":
			ln, err := net.Listen("tcp", arg)
			if err != nil {
				fmt.Println(err)
				return 1
			}
			fmt.Println("addr", ln.Addr())
		case "exit":
			n, _ := strconv.Atoi(arg)
			fmt.Println("up")
			return n
		case "die":
			n, _ := strconv.Atoi(arg)
			fmt.Println("up")
			signal.Reset(syscall.Signal(n))
			_ = syscall.Kill(os.Getpid(), syscall.Signal(n))
		case "read":
			b, _ := os.ReadFile("/proc/self/exe")
			fmt.Println("read", len(b))
		case "start": // an owner that dies and leaves its engine behind
			return startAndLeave(arg)
		}
	}
	fmt.Println("up")
	select {}
}

// startAndLeave starts a stub as an owner does, prints who it is and ends.
func startAndLeave(log string) int {
	f, err := os.OpenFile(log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return 1
	}
	p, err := proc.Start(proc.Spec{Path: os.Args[0], Args: []string{stubWord, "child", "child-setsid"}, Log: f, Tag: os.Getenv("LEFT_TAG")})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	id, err := p.Identity()
	fmt.Println(id.PID, id.StartTicks, id.BootID, id.ExeDev, id.ExeIno, err)
	return 0
}

// started is a stub that is up.
type started struct {
	*proc.Process
	log string
}

func start(t *testing.T, mark string, edit func(*proc.Spec), words ...string) started {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(t.TempDir(), "log")
	f, err := os.OpenFile(log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := proc.Spec{Path: self, Args: append([]string{stubWord}, words...), Log: f, Tag: mark}
	if edit != nil {
		edit(&s)
	}
	p, err := proc.Start(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Stop(0) })
	st := started{p, log}
	until(t, "the stub is up", func() bool { return strings.Contains(st.said(), "up\n") })
	return st
}

func (s started) said() string {
	b, _ := os.ReadFile(s.log)
	return string(b)
}

// until polls what real processes bring about.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for begin := time.Now(); !ok(); runtime.Gosched() {
		if time.Since(begin) > 20*time.Second {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

// tag is different in every run of the tests, so that two at once do not meet.
func tag(name string) string { return name + "-" + strconv.Itoa(os.Getpid()) }

// living returns the processes that carry a tag and are no zombies.
func living(mark string) []int {
	var out []int
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		b, err := os.ReadFile(d + "/environ")
		pid, _ := strconv.Atoi(filepath.Base(d))
		if err == nil && strings.Contains("\x00"+string(b), "\x00"+proc.TagEnv+"="+mark+"\x00") {
			out = append(out, pid)
		}
	}
	return out
}

func zombies(t *testing.T) []int {
	t.Helper()
	var out []int
	dirs, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, d := range dirs {
		b, _ := os.ReadFile(d)
		if s, err := proc.ParseStat(b); err == nil && s.Parent == os.Getpid() && s.State == 'Z' {
			out = append(out, s.PID)
		}
	}
	return out
}

// left starts an owner that leaves an engine with two more members behind.
func left(t *testing.T, mark string) proc.Identity {
	t.Helper()
	log := filepath.Join(t.TempDir(), "left.log")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, stubWord, "start:"+log)
	cmd.Env = append(os.Environ(), "LEFT_TAG="+mark)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	var id proc.Identity
	if _, err := fmt.Sscan(line, &id.PID, &id.StartTicks, &id.BootID, &id.ExeDev, &id.ExeIno); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	until(t, "the engine and its children run", func() bool { return len(living(mark)) == 3 })
	t.Cleanup(func() {
		for _, pid := range living(mark) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		reapOrphans()
	})
	return id
}

// reapOrphans takes the status of processes that became ours by the death of
// their parent.
func reapOrphans() {
	for {
		pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		if pid <= 0 || err != nil {
			return
		}
	}
}
