package proc_test

import (
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/llorch/llorch/poolcore/internal/proc"
)

// TestExit: code and signal of the leader, whatever it left (PCO-22).
func TestExit(t *testing.T) {
	for _, c := range []struct {
		word string
		want proc.Exit
	}{
		{"exit:0", proc.Exit{Known: true}},
		{"exit:3", proc.Exit{Code: 3, Known: true}},
		{"die:9", proc.Exit{Code: -1, Signal: "SIGKILL", Known: true}},
		{"die:15", proc.Exit{Code: -1, Signal: "SIGTERM", Known: true}},
	} {
		p := start(t, tag("exit-1"), nil, "child", "child-setsid", c.word)
		<-p.Done()
		if p.Exit() != c.want {
			t.Errorf("%s: %+v, want %+v", c.word, p.Exit(), c.want)
		}
		if pids := living(tag("exit-1")); len(pids) > 0 {
			t.Errorf("G2: %s: %v are left", c.word, pids)
		}
		if _, err := p.Identity(); !errors.Is(err, proc.ErrGone) {
			t.Errorf("Identity of a reaped process = %v", err)
		}
	}
	reapOrphans()
	if z := zombies(t); len(z) > 0 {
		t.Errorf("zombies: %v", z)
	}
}

// TestStopWithForkedGrandchild (PCO-21, PCO-23): whoever is in the group or carries
// the tag goes, also when it ignores SIGTERM and holds our log.
func TestStopWithForkedGrandchild(t *testing.T) {
	for _, words := range [][]string{{}, {"child"}, {"child-setsid"}, {"ignore-term"}, {"ignore-term", "child", "child-setsid"}} {
		t.Run(strings.Join(words, "+"), func(t *testing.T) {
			p := start(t, tag("stop-1"), nil, words...)
			var wg sync.WaitGroup
			for range 3 { // idempotent, from several callers
				wg.Go(func() {
					if !p.Stop(100 * time.Millisecond) {
						t.Error("Stop = false")
					}
				})
			}
			wg.Wait()
			if pids := living(tag("stop-1")); len(pids) > 0 {
				t.Errorf("G2: %v are left", pids)
			}
			if !p.Stop(time.Second) {
				t.Error("stopping what is gone failed")
			}
			reapOrphans()
		})
	}
}

// TestStartRefused: nothing is left of a start that failed.
func TestStartRefused(t *testing.T) {
	before := fds(t)
	for range 10 {
		if p, err := proc.Start(proc.Spec{Path: "/nonexistent/engine", Tag: "x", TieStdin: true}); err == nil || p != nil {
			t.Fatalf("Start = %v, %v", p, err)
		}
	}
	runtime.GC()
	if after := fds(t); after > before+2 {
		t.Errorf("%d descriptors became %d", before, after)
	}
}

func fds(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// TestTwentyCyclesLeakNothing: descriptors and goroutines stay flat.
func TestTwentyCyclesLeakNothing(t *testing.T) {
	start(t, tag("cycle"), nil).Stop(0)
	before, routines := fds(t), runtime.NumGoroutine()
	for range 20 {
		p := start(t, tag("cycle"), func(s *proc.Spec) { s.TieStdin = true })
		if !p.Stop(0) {
			t.Fatal("not stopped")
		}
	}
	until(t, "goroutines end", func() bool { return runtime.NumGoroutine() <= routines+1 })
	if after := fds(t); after > before+2 {
		t.Errorf("%d descriptors became %d", before, after)
	}
	if z := zombies(t); len(z) > 0 {
		t.Errorf("zombies: %v", z)
	}
}

// TestAdopt (G8, PCO-22, PCO-28): the engine of a dead owner is taken over by its
// identity, stopped with everybody, and has no exit code.
func TestAdopt(t *testing.T) {
	id := left(t, tag("adopt-1"))
	p, err := proc.Adopt(id, tag("adopt-1"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if now, err := p.Identity(); err != nil || now != id || p.PID() != id.PID {
		t.Errorf("Identity = %+v, %v; want %+v", now, err, id)
	}
	if got := len(p.PIDs()); got != 3 {
		t.Errorf("%d members, want 3", got)
	}
	if !p.Stop(100 * time.Millisecond) {
		t.Fatal("not stopped")
	}
	if p.Exit() != (proc.Exit{Code: -1}) {
		t.Errorf("Exit = %+v", p.Exit())
	}
	if pids := living(tag("adopt-1")); len(pids) > 0 {
		t.Errorf("G2: %v are left", pids)
	}
	reapOrphans()
	if _, err := proc.Adopt(id, tag("adopt-1"), nil); !errors.Is(err, proc.ErrGone) {
		t.Errorf("Adopt of a reaped process = %v, want ErrGone", err)
	}
}

// TestAdoptedCrashIsSeen (PCO-22): the end of an adopted leader is an event of its
// handle, and its survivors go with it, while it is still a zombie.
func TestAdoptedCrashIsSeen(t *testing.T) {
	id := left(t, tag("adopt-2"))
	p, err := proc.Adopt(id, tag("adopt-2"), nil)
	if err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	if err := syscall.Kill(id.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	t.Logf("crash of an adopted leader to its end: %v", time.Since(killed))
	if pids := living(tag("adopt-2")); len(pids) > 0 {
		t.Errorf("G2: %v are left", pids)
	}
	if z := zombies(t); !slices.Contains(z, id.PID) {
		t.Errorf("the leader was reaped by somebody: zombies are %v", z)
	}
	stranger := start(t, tag("adopt-3"), nil, "listen:127.0.0.1:0")
	if owned, known, anybody := p.Listens(stranger.addr()); owned || !known || anybody {
		t.Errorf("G4: a stranger's port counts as that of a dead leader: %v, %v", owned, known)
	}
}

// TestPidReuseNeverSignalled (G3): a pid that has another start time, boot id or
// program, or of which one is not known, is never touched.
func TestPidReuseNeverSignalled(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	real := left(t, tag("reuse-1"))
	// The kernel gives a number again only much later than within one tick.
	until(t, "the clock moves on", func() bool { return ticks(t) > real.StartTicks+5 })
	stranger := exec.Command(self, stubWord)
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = stranger.Process.Kill(), stranger.Wait() }()
	for name, c := range map[string]struct {
		edit func(*proc.Identity)
		want error
	}{
		"pid of a stranger": {func(i *proc.Identity) { i.PID = stranger.Process.Pid }, proc.ErrDifferent},
		"start time":        {func(i *proc.Identity) { i.StartTicks++ }, proc.ErrDifferent},
		"no start time":     {func(i *proc.Identity) { i.StartTicks = 0 }, proc.ErrDifferent},
		"boot id":           {func(i *proc.Identity) { i.BootID = "another" }, proc.ErrGone},
		"no boot id":        {func(i *proc.Identity) { i.BootID = "" }, proc.ErrGone},
		"program":           {func(i *proc.Identity) { i.ExeIno++ }, proc.ErrDifferent},
		"device":            {func(i *proc.Identity) { i.ExeDev++ }, proc.ErrDifferent},
		"no program":        {func(i *proc.Identity) { i.ExeIno = 0 }, proc.ErrDifferent},
		"init":              {func(i *proc.Identity) { i.PID = 1 }, proc.ErrDifferent},
		"no pid":            {func(i *proc.Identity) { i.PID = 0 }, proc.ErrDifferent},
		"ourselves":         {func(i *proc.Identity) { i.PID = os.Getpid() }, proc.ErrDifferent},
		"a group":           {func(i *proc.Identity) { i.PID = -i.PID }, proc.ErrDifferent},
	} {
		id := real
		c.edit(&id)
		if p, err := proc.Adopt(id, tag("reuse-1"), nil); !errors.Is(err, c.want) || p != nil {
			t.Errorf("%s: Adopt = %v, %v; want %v", name, p, err, c.want)
		}
	}
	if len(living(tag("reuse-1"))) != 3 {
		t.Error("G3: somebody was signalled")
	}
	if err := stranger.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("G3: the stranger was signalled: %v", err)
	}
}

// ticks is the time since boot in the unit of start times.
func ticks(t *testing.T) uint64 {
	t.Helper()
	b, err := os.ReadFile("/proc/uptime")
	if err != nil {
		t.Fatal(err)
	}
	up, err := strconv.ParseFloat(strings.Fields(string(b))[0], 64)
	if err != nil {
		t.Fatal(err)
	}
	return uint64(up * 100)
}

// TestKillInstance (PCO-27): the engines of one state directory that no record
// names are found by their environment; those of another are left alone.
func TestKillInstance(t *testing.T) {
	with := func(instance string) func(*proc.Spec) {
		return func(s *proc.Spec) { s.Env = []string{proc.InstanceEnv + "=" + instance} }
	}
	lost := start(t, tag("lost"), with(tag("mine")), "child-setsid")
	kept, other := start(t, tag("kept"), with(tag("mine"))), start(t, tag("other"), with(tag("mine-too")))
	named := start(t, tag("named"), nil)
	if n := proc.KillInstance(tag("mine"), map[string]bool{tag("named"): true}, func(name string) bool { return name == tag("kept") }); n != 2 && n != 3 {
		t.Errorf("KillInstance = %d, want 3, or 2 when the end of a leader took its child along before", n)
	}
	<-named.Done()
	<-lost.Done()
	for name, p := range map[string]started{"kept": kept, "other": other} {
		if len(living(tag(name))) != 1 {
			t.Errorf("%s was ended", name)
		}
		p.Stop(0)
	}
	if n := proc.KillInstance("", nil, func(string) bool { return false }); n != 0 {
		t.Errorf("KillInstance of nobody = %d", n)
	}
	reapOrphans()
}

// TestTagged (PCO-27): a pid that somebody else has now is not the worker's.
func TestTagged(t *testing.T) {
	p := start(t, tag("tagged"), nil)
	for _, c := range []struct {
		pid  int
		tag  string
		want bool
	}{{p.PID(), tag("tagged"), true}, {p.PID(), tag("other"), false}, {os.Getpid(), tag("tagged"), false}, {0, "", false}, {-1, "", false}} {
		if got := proc.Tagged(c.pid, c.tag); got != c.want {
			t.Errorf("Tagged(%d, %s) = %v", c.pid, c.tag, got)
		}
	}
	if began, ok := proc.StartTicks(p.PID()); !ok || began == 0 {
		t.Errorf("StartTicks = %d, %v", began, ok)
	}
	p.Stop(0)
	if _, ok := proc.StartTicks(p.PID()); ok || proc.Tagged(p.PID(), tag("tagged")) {
		t.Error("a process that is gone counts")
	}
}

// TestListens (PCO-29): whose socket it is that listens on an address.
func TestListens(t *testing.T) {
	ours, theirs := start(t, tag("sock-1"), nil, "listen:127.0.0.1:0"), start(t, tag("sock-2"), nil, "listen:[::]:0")
	for _, c := range []struct {
		p    started
		of   started
		host string
		want bool
	}{{ours, ours, "127.0.0.1", true}, {theirs, ours, "127.0.0.1", false}, {theirs, theirs, "127.0.0.1", true}, {theirs, theirs, "::1", true}, {ours, theirs, "127.0.0.1", false}} {
		addr := netip.AddrPortFrom(netip.MustParseAddr(c.host), c.of.addr().Port())
		if owned, known, anybody := c.p.Listens(addr); owned != c.want || !known || !anybody {
			t.Errorf("Listens(%v) = %v, %v; want %v", addr, owned, known, c.want)
		}
	}
	if owned, known, anybody := ours.Listens(netip.MustParseAddrPort("127.0.0.1:1")); owned || !known || anybody {
		t.Error("nobody listens there")
	}
	ours.Stop(0)
	if owned, known, anybody := ours.Listens(theirs.addr()); owned || !known || anybody {
		t.Errorf("G4: a stranger's port counts as that of a reaped leader: %v, %v", owned, known)
	}
}

// addr is where a stub with "listen" listens.
func (s started) addr() netip.AddrPort {
	line, _, _ := strings.Cut(strings.TrimPrefix(s.said(), "addr "), "\n")
	return netip.MustParseAddrPort(line)
}

// TestReadBytesGrow (PCO-30): what a process reads is progress.
func TestReadBytesGrow(t *testing.T) {
	p, q := start(t, tag("io-1"), nil), start(t, tag("io-2"), nil, "read")
	if few, many := p.ReadBytes(), q.ReadBytes(); many < few+1<<20 {
		t.Errorf("ReadBytes = %d and, after reading megabytes, %d", few, many)
	}
}
