package examples_test

import (
	"bufio"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/llorch/llorch/orchestrator/taskapi"
)

// long is the time that a scenario's disturbance lasts: what its table says in
// the nightly run, shortly more than the 3 s timeout of nodes otherwise.
func long(nightly time.Duration) time.Duration {
	if os.Getenv("LLORCH_NIGHTLY") != "" {
		return nightly
	}
	return 6 * time.Second
}

// pause lets a disturbance last: the machines are processes, whose time is ours.
func pause(t *testing.T, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
	}
}

// load submits tasks one after the other until it is stopped, and returns their
// ids.
func (l *lab) load(o *program, tokens int, every time.Duration) (stop func() []string) {
	quit := make(chan struct{})
	var ids []string
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			ids = append(ids, o.submit(apiToken, tokens, "").TaskID)
			select {
			case <-quit:
				return
			case <-tick.C:
			}
		}
	})
	return func() []string { close(quit); wg.Wait(); return ids }
}

// endings waits for all tasks and counts how they ended: "completed", or the code
// of the error with "!" if it is not retriable.
func (l *lab) endings(o *program, ids []string, most time.Duration) map[string]int {
	out := map[string]int{}
	for _, id := range ids {
		task := l.ended(o, id, most)
		switch {
		case task.Error == nil:
			out[task.Status]++
		case task.Error.Retriable:
			out[string(task.Error.Code)]++
		default:
			out[string(task.Error.Code)+"!"]++
		}
	}
	return out
}

// twoNodes is a lab with an orchestrator and two nodes that work slowly.
func twoNodes(t *testing.T) (*lab, *program, map[string]*program) {
	t.Helper()
	l := newLab(t, "ctl", "gpu1", "gpu2")
	o := l.control(t.TempDir())
	nodes := map[string]*program{}
	for _, host := range []string{"gpu1", "gpu2"} {
		nodes[host] = l.node(host, t.TempDir(), "--preset=slow")
	}
	l.online(o, "gpu1", "gpu2")
	return l, o, nodes
}

// TestNetN01: a node is registered within 5 s whoever starts first, and its first
// task runs within 1 s more.
func TestNetN01(t *testing.T) {
	if !inLab(t) {
		return
	}
	l := newLab(t, "ctl", "gpu1")
	l.node("gpu1", t.TempDir())
	pause(t, 2*time.Second) // refused connections: its retries wait longer and longer
	o := l.control(t.TempDir())
	took := within(t, 5*time.Second, "the node that started first is registered", func() bool { return l.status(o, "gpu1") == "online" })
	acc := o.submit(apiToken, 5, "")
	first := within(t, time.Second, "its first task ends", func() bool { return o.task(apiToken, acc.TaskID).Status == "completed" })
	t.Logf("N01: registered %v after the orchestrator's start, first task %v later", took, first)
}

// TestNetN03: SIGTERM drains a node: no task fails, it deregisters and is gone
// from the list within 1 s of its end.
func TestNetN03(t *testing.T) {
	if !inLab(t) {
		return
	}
	l, o, nodes := twoNodes(t)
	stop := l.load(o, 30, 400*time.Millisecond)
	within(t, 10*time.Second, "gpu2 works", func() bool { return l.busy(o, "gpu2") > 0 })
	nodes["gpu2"].signal(syscall.SIGTERM)
	code := nodes["gpu2"].wait()
	gone := within(t, time.Second, "gpu2 is gone from the list", func() bool { _, there := l.nodes(o)["gpu2"]; return !there })
	ends := l.endings(o, stop(), 60*time.Second)
	t.Logf("N03: exit %d, gone after %v, tasks %v", code, gone, ends)
	if code != 0 || len(ends) != 1 || ends["completed"] == 0 {
		t.Errorf("a drained node: exit %d, tasks ended %v, want all completed", code, ends)
	}
}

// busy is how many tasks run on a node.
func (l *lab) busy(o *program, node string) int {
	l.t.Helper()
	n := 0
	for _, task := range decode[taskapi.TaskList](l.t, o.call("GET", "/v2/tasks?status=running&limit=200", apiToken, ""), http.StatusOK).Tasks {
		if task.NodeID == node {
			n++
		}
	}
	return n
}

// TestNetN04: a machine without power is avoided at once and offline within the
// timeout and 1 s; tasks of which nobody has seen a token run elsewhere, the
// others end with a retriable WORKER_RESET.
func TestNetN04(t *testing.T) {
	if !inLab(t) {
		return
	}
	l, o, nodes := twoNodes(t)
	stop := l.load(o, 30, 400*time.Millisecond)
	within(t, 10*time.Second, "gpu1 works", func() bool { return l.busy(o, "gpu1") > 0 })
	l.cut("gpu1")
	nodes["gpu1"].signal(syscall.SIGKILL)
	offline := within(t, 5*time.Second, "gpu1 is offline", func() bool { return l.status(o, "gpu1") == "offline" })
	ends := l.endings(o, stop(), 60*time.Second)
	t.Logf("N04: offline after %v, tasks %v", offline, ends)
	for how, n := range ends {
		if how != "completed" && how != "WORKER_RESET" {
			t.Errorf("%d tasks ended %s, want completed or a retriable WORKER_RESET", n, how)
		}
	}
	if offline > 4*time.Second+200*time.Millisecond {
		t.Errorf("offline after %v, want 3 s and 1 s at most", offline)
	}
}

// TestNetN05: when only heartbeats are lost the node gets no new work, what runs
// goes on to its end, and it is online within a beat when they come again.
func TestNetN05(t *testing.T) {
	if !inLab(t) {
		return
	}
	l := newLab(t, "ctl", "gpu1")
	o := l.control(t.TempDir())
	l.node("gpu1", t.TempDir(), "--preset=slow")
	l.online(o, "gpu1")
	acc := o.submit(apiToken, 100, "")
	within(t, 10*time.Second, "the task runs", func() bool { return o.task(apiToken, acc.TaskID).TokensOut > 0 || l.busy(o, "gpu1") > 0 })
	l.mute("gpu1", "ctl", "8080")
	suspect := within(t, 3*time.Second, "gpu1 gets no more work", func() bool { return l.status(o, "gpu1") != "online" })
	waiting := o.submit(apiToken, 3, "")
	pause(t, long(20*time.Second))
	if task := o.task(apiToken, waiting.TaskID); task.Status != "queued" {
		t.Errorf("a task came to a silent node: %s on %s", task.Status, task.NodeID)
	}
	status := l.status(o, "gpu1")
	l.unmute("gpu1", "ctl", "8080")
	back := within(t, 4*time.Second, "gpu1 is online again", func() bool { return l.status(o, "gpu1") == "online" })
	first, second := l.ended(o, acc.TaskID, 30*time.Second), l.ended(o, waiting.TaskID, 30*time.Second)
	t.Logf("N05: no work after %v, then %s, online %v after the end; running task %s, waiting task %s", suspect, status, back, first.Status, second.Status)
	if lasted := first.FinishedAt.Sub(first.StartedAt); lasted < 3*time.Second {
		t.Logf("N05: the running task lasted %v only: it proves little", lasted)
	}
	if first.Status != "completed" || second.Status != "completed" {
		t.Errorf("the running task is %s, the waiting one %s: %+v", first.Status, second.Status, first.Error)
	}
}

// TestNetN06: a partition, then loss in one direction and in the other: work goes
// on at the other node, the node that returns has a larger epoch and comes back
// within an interval, and nothing is left running.
func TestNetN06(t *testing.T) {
	if !inLab(t) {
		return
	}
	l, o, _ := twoNodes(t)
	for _, fault := range []struct {
		name       string
		break_, up func()
	}{
		{"partition", func() { l.cut("gpu1") }, func() { l.heal("gpu1") }},
		{"gpu1 is not heard", func() { l.deaf("gpu1", "ctl") }, func() { l.hear("gpu1", "ctl") }},
		{"gpu1 hears nothing", func() { l.deaf("ctl", "gpu1") }, func() { l.hear("ctl", "gpu1") }},
	} {
		epoch := l.nodes(o)["gpu1"].Epoch
		stop := l.load(o, 20, 600*time.Millisecond)
		within(t, 10*time.Second, "gpu1 works", func() bool { return l.busy(o, "gpu1") > 0 })
		began := time.Now()
		fault.break_()
		offline := within(t, 6*time.Second, "gpu1 is offline", func() bool { return l.status(o, "gpu1") == "offline" })
		pause(t, long(60*time.Second)-time.Since(began))
		fault.up()
		back := within(t, 5*time.Second, "gpu1 is online again", func() bool { return l.status(o, "gpu1") == "online" })
		ends := l.endings(o, stop(), 60*time.Second)
		after := l.nodes(o)["gpu1"].Epoch
		t.Logf("N06 %s: offline after %v, back %v after healing, epoch %d → %d, tasks %v", fault.name, offline, back, epoch, after, ends)
		if after <= epoch {
			t.Errorf("%s: epoch %d after %d: late answers are not told from new ones", fault.name, after, epoch)
		}
		for how, n := range ends {
			if how != "completed" && how != "WORKER_RESET" {
				t.Errorf("%s: %d tasks ended %s", fault.name, n, how)
			}
		}
		if got := len(l.engines()); got != 2 {
			t.Errorf("%s: %d engines run, want one per node", fault.name, got)
		}
		if n := l.busy(o, "gpu1") + l.busy(o, "gpu2"); n != 0 {
			t.Errorf("%s: %d tasks still run", fault.name, n)
		}
	}
}

// TestNetN08: an orchestrator that was stopped blames nobody: no node is lost, no
// task is placed a second time.
func TestNetN08(t *testing.T) {
	if !inLab(t) {
		return
	}
	l, o, _ := twoNodes(t)
	pauses := []time.Duration{6 * time.Second}
	if os.Getenv("LLORCH_NIGHTLY") != "" {
		pauses = []time.Duration{10 * time.Second, 25 * time.Second, 60 * time.Second}
	}
	for _, d := range pauses {
		acc := o.submit(apiToken, 60, "")
		// A call that is being connected would outlast its own time in the pause.
		for lines := bufio.NewScanner(o.stream(apiToken, acc.TaskID, 0).Body); lines.Scan() && lines.Text() != "event: token"; {
		}
		before := strings.Count(o.errs.String(), "node offline")
		o.signal(syscall.SIGSTOP)
		pause(t, d)
		o.signal(syscall.SIGCONT)
		within(t, 10*time.Second, "both nodes are online", func() bool {
			n := l.nodes(o)
			return n["gpu1"].Status == "online" && n["gpu2"].Status == "online"
		})
		if n := strings.Count(o.errs.String(), "node offline") - before; n != 0 {
			t.Errorf("%d nodes were declared lost because of a pause of %v", n, d)
		}
		task := l.ended(o, acc.TaskID, 60*time.Second)
		t.Logf("N08: paused for %v: task %s at attempt %d", d, task.Status, task.Attempt)
		// After a minute its own clock says that the engine was silent for too long.
		silent := d >= time.Minute && task.Error != nil && task.Error.Code == taskapi.DecodeTimeout
		if task.Attempt != 1 || task.Status != "completed" && !silent {
			t.Errorf("the task is %s and was placed %d times", task.Status, task.Attempt)
		}
	}
}
