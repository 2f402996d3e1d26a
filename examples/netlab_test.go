package examples_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/llorch/llorch/orchestrator/taskapi"
)

// A lab is a network of its own: a bridge, and one network namespace per machine
// on it. It lives in user, mount, process and network namespaces that a copy of
// this test runs in, so nothing of it is left when that process ends, and no
// right is needed that an ordinary user lacks (NET-1).
type lab struct {
	t     *testing.T
	hosts map[string]string // name → address
}

const labEnv = "LLORCH_TEST_LAB"

// inLab runs the calling test again inside of the namespaces and reports whether
// this process is that copy.
func inLab(t *testing.T) bool {
	t.Helper()
	whole(t)
	if os.Getenv(labEnv) != "" {
		return true
	}
	dir, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	for _, tool := range []string{"ip", "mount"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("SKIPPED: %s is not installed (Debian: iproute2, mount)", tool)
		}
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=15m")
	cmd.Env = append(os.Environ(), labEnv+"="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	out, err := cmd.CombinedOutput()
	if err != nil && len(out) == 0 {
		t.Skipf("SKIPPED: this machine allows no namespaces: %v", err)
	}
	t.Logf("%s", out)
	if err != nil {
		t.Fatalf("inside of the namespaces: %v", err)
	}
	return false
}

// newLab puts machines on one bridge. This process has an address on it too.
func newLab(t *testing.T, names ...string) *lab {
	t.Helper()
	l := &lab{t: t, hosts: map[string]string{}}
	l.run("mount", "--make-rprivate", "/")
	l.run("mount", "-t", "proc", "proc", "/proc")
	l.run("mount", "-t", "tmpfs", "tmpfs", "/run")
	l.run("ip", "link", "set", "lo", "up")
	l.run("ip", "link", "add", "br0", "type", "bridge")
	l.run("ip", "addr", "add", "10.77.0.254/24", "dev", "br0")
	l.run("ip", "link", "set", "br0", "up")
	for i, name := range names {
		address := fmt.Sprintf("10.77.0.%d", i+1)
		l.hosts[name] = address
		l.run("ip", "netns", "add", name)
		l.run("ip", "link", "add", "v-"+name, "type", "veth", "peer", "name", "eth0", "netns", name)
		l.run("ip", "link", "set", "v-"+name, "master", "br0", "up")
		l.run("ip", "-n", name, "link", "set", "lo", "up")
		l.run("ip", "-n", name, "addr", "add", address+"/24", "dev", "eth0")
		l.run("ip", "-n", name, "link", "set", "eth0", "up")
	}
	return l
}

func (l *lab) run(name string, args ...string) {
	l.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		l.t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
}

// cut takes a machine's cable out: everything it sends and is sent is lost in
// silence. heal puts it back.
func (l *lab) cut(name string)  { l.run("ip", "link", "set", "v-"+name, "nomaster") }
func (l *lab) heal(name string) { l.run("ip", "link", "set", "v-"+name, "master", "br0") }

// deaf loses what from sends to to, and nothing else; hear undoes it.
func (l *lab) deaf(from, to string) {
	l.run("ip", "-n", from, "route", "add", "blackhole", l.hosts[to]+"/32")
}

func (l *lab) hear(from, to string) {
	l.run("ip", "-n", from, "route", "del", "blackhole", l.hosts[to]+"/32")
}

// mute loses what a machine sends to one port of another.
func (l *lab) mute(from, to, port string) {
	l.run("ip", "-n", from, "rule", "add", "to", l.hosts[to], "ipproto", "tcp", "dport", port, "blackhole")
}

func (l *lab) unmute(from, to, port string) {
	l.run("ip", "-n", from, "rule", "del", "to", l.hosts[to], "ipproto", "tcp", "dport", port, "blackhole")
}

// start runs a program on a machine.
func (l *lab) start(host string, env []string, name string, args ...string) *program {
	l.t.Helper()
	p := &program{t: l.t, errs: new(lockedBuffer), cmd: exec.Command("ip", append([]string{"netns", "exec", host, filepath.Join(os.Getenv(labEnv), name)}, args...)...)}
	p.cmd.Env = append([]string{"HOME=" + l.t.TempDir(), "PATH=" + os.Getenv("PATH")}, env...)
	p.cmd.Stderr = p.errs
	if err := p.cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() {
		p.signal(syscall.SIGKILL)
		p.wait()
		if l.t.Failed() {
			l.t.Logf("%s on %s said:\n%s", name, host, lastLines(p.errs.String(), 25))
		}
	})
	within(l.t, 20*time.Second, name+" listens", func() bool { return strings.Contains(p.errs.String(), " listens on ") || p.exited() })
	if p.exited() {
		l.t.Fatalf("%s ended at once: %s", name, p.errs)
	}
	return p
}

// lastLines is the end of a log, without the requests that the test itself made.
func lastLines(s string, n int) string {
	lines := slices.DeleteFunc(strings.Split(strings.TrimSpace(s), "\n"), func(line string) bool { return strings.Contains(line, "http_request") })
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// control starts the orchestrator on machine ctl: beats every second, offline
// after three.
func (l *lab) control(state string) *program {
	p := l.start("ctl", []string{
		"LLORCH_STATE_DIR=" + state, "ORCHESTRATORD_ADDR=" + l.hosts["ctl"] + ":8080", "LLORCH_API_TOKEN_FILE=" + l.token(),
		"ORCHESTRATORD_NODE_TIMEOUT_SECS=3", "ORCHESTRATORD_HEARTBEAT_INTERVAL_SECS=1",
	}, "orchestratord", "--admission-capacity", "10000")
	p.url = "http://" + l.hosts["ctl"] + ":8080"
	return p
}

func (l *lab) token() string {
	path := filepath.Join(l.t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(apiToken+"\n"), 0o600); err != nil {
		l.t.Fatal(err)
	}
	return path
}

// node starts a node daemon with one simulated engine on a machine.
func (l *lab) node(host, state string, flags ...string) *program {
	file := filepath.Join(l.t.TempDir(), "pools.toml")
	quoted := make([]string, len(flags))
	for i, f := range flags {
		quoted[i] = fmt.Sprintf("%q", f)
	}
	pools := fmt.Sprintf("binaries = [%q]\n[[pool]]\npool_id = \"gpu0\"\nengine = \"simulator\"\nmodel = \"sim-8b\"\nslots = 4\nstop_grace_ms = 500\nflags = [%s]\n",
		"simulator="+filepath.Join(os.Getenv(labEnv), "enginesim"), strings.Join(quoted, ", "))
	if err := os.WriteFile(file, []byte(pools), 0o600); err != nil {
		l.t.Fatal(err)
	}
	p := l.start(host, []string{
		"POOL_MANAGERD_RUNTIME_DIR=" + filepath.Join(state, "run"), "LLORCH_API_TOKEN_FILE=" + l.token(),
		"POOL_MANAGERD_ADDR=" + l.hosts[host] + ":9200", "POOL_MANAGERD_NODE_ID=" + host, "ORCHESTRATORD_URL=http://" + l.hosts["ctl"] + ":8080",
		"POOL_MANAGERD_GPU_PROVIDER=none",
	}, "pool-managerd", "--config", file)
	p.url = "http://" + l.hosts[host] + ":9200"
	return p
}

// status is what the orchestrator believes about a node; "" = it does not know it.
func (l *lab) status(o *program, node string) string {
	return l.nodes(o)[node].Status
}

type labNode struct {
	ID     string `json:"node_id"`
	Status string `json:"status"`
	Epoch  uint64 `json:"epoch"`
	Guard  bool   `json:"guard_held"`
}

func (l *lab) nodes(o *program) map[string]labNode {
	l.t.Helper()
	list := decode[struct {
		Nodes []labNode `json:"nodes"`
	}](l.t, o.call("GET", "/v2/nodes", apiToken, ""), http.StatusOK)
	out := map[string]labNode{}
	for _, n := range list.Nodes {
		out[n.ID] = n
	}
	return out
}

// online waits until the orchestrator can use a node's engine.
func (l *lab) online(o *program, nodes ...string) {
	l.t.Helper()
	for _, n := range nodes {
		within(l.t, 15*time.Second, n+" is online with a ready engine", func() bool {
			res := o.call("GET", "/v2/nodes/"+n, apiToken, "")
			if res.StatusCode != http.StatusOK {
				return false
			}
			text := body(l.t, res)
			return strings.Contains(text, `"status":"online"`) && strings.Contains(text, `"ready":true`)
		})
	}
}

// ended waits until a task is terminal and returns it.
func (l *lab) ended(o *program, id string, most time.Duration) taskapi.Task {
	l.t.Helper()
	var task taskapi.Task
	within(l.t, most, "task "+id+" is terminal", func() bool {
		task = o.task(apiToken, id)
		return task.Status == "completed" || task.Status == "failed" || task.Status == "cancelled"
	})
	return task
}

// engines lists the processes of simulated engines in this lab.
func (l *lab) engines() (pids []string) {
	list, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range list {
		if text, err := os.ReadFile(f); err == nil && bytes.Contains(text, []byte("/enginesim\x00")) {
			pids = append(pids, filepath.Base(filepath.Dir(f)))
		}
	}
	return pids
}
