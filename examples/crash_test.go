package examples_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/llorch/llorch/orchestrator/taskapi"
	"github.com/llorch/llorch/orchestrator/worker/workertest"
)

// crowd submits tasks to a program that is killed again and again, and knows what
// it was promised.
type crowd struct {
	t    *testing.T
	runs *workBook

	mu      sync.Mutex
	next    int
	open    []int          // keys whose submission had no answer yet
	ids     map[int]string // by key: the task of a 202
	seen    map[string]int // by task: tokens that a reader has got
	retried int            // submissions whose 202 was for the task of an earlier try
}

// workBook is what the engine was asked to do, by task.
type workBook struct {
	mu       sync.Mutex
	arrived  map[string]int // by task and attempt
	finished map[string]int // by task
	attempts map[string]int // by task: the highest
}

func (w *workBook) note(e workertest.Event) {
	cut := strings.LastIndexByte(e.Key, '-')
	if cut < 0 {
		return
	}
	task, n := e.Key[:cut], 0
	_, _ = fmt.Sscan(e.Key[cut+1:], &n)
	w.mu.Lock()
	defer w.mu.Unlock()
	switch e.Event {
	case "arrived":
		w.arrived[e.Key]++
		w.attempts[task] = max(w.attempts[task], n)
	case "finished":
		w.finished[task]++
	}
}

const crashTokens = 12

// submit sends what has no answer yet, then new tasks, until ctx ends or the
// program is gone. Every fourth task is read as it runs.
func (c *crowd) submit(ctx context.Context, url string, fresh bool) {
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	var readers sync.WaitGroup
	defer readers.Wait()
	for ctx.Err() == nil {
		c.mu.Lock()
		key := c.next
		if n := len(c.open); n > 0 {
			key, c.open = c.open[n-1], c.open[:n-1]
		} else if !fresh {
			c.mu.Unlock()
			return
		} else {
			c.next++
		}
		c.mu.Unlock()
		acc, err := c.one(ctx, client, url, key)
		c.mu.Lock()
		if err != nil {
			c.open = append(c.open, key)
		} else {
			c.ids[key] = acc.TaskID
			if acc.Duplicate {
				c.retried++
			}
		}
		c.mu.Unlock()
		if err != nil {
			return
		}
		if key%4 == 0 {
			readers.Go(func() { c.read(ctx, client, url, acc.TaskID) })
		}
	}
}

func (c *crowd) one(ctx context.Context, client *http.Client, url string, key int) (acc taskapi.Accepted, err error) {
	text := fmt.Sprintf(`{"model":"sim-8b","prompt":"task %d","max_tokens":%d,"on_disconnect":"continue"}`, key, crashTokens)
	req, err := http.NewRequestWithContext(ctx, "POST", url+"/v2/tasks", strings.NewReader(text))
	if err != nil {
		return acc, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", fmt.Sprint("key-", key))
	res, err := client.Do(req)
	if err != nil {
		return acc, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusAccepted {
		return acc, fmt.Errorf("status %d", res.StatusCode)
	}
	return acc, json.NewDecoder(res.Body).Decode(&acc)
}

// read counts the tokens that a reader got before the program went away.
func (c *crowd) read(ctx context.Context, client *http.Client, url, id string) {
	req, err := http.NewRequestWithContext(ctx, "GET", url+"/v2/tasks/"+id+"/events", nil)
	if err != nil {
		return
	}
	res, err := client.Do(req)
	if err != nil {
		return
	}
	defer res.Body.Close()
	buf := make([]byte, 4096)
	for {
		n, err := res.Body.Read(buf)
		if tokens := strings.Count(string(buf[:n]), "event: token"); tokens > 0 {
			c.mu.Lock()
			c.seen[id] += tokens
			c.mu.Unlock()
		}
		if err != nil {
			return
		}
	}
}

// TestKill9AtRandom: orchestratord is killed at random instants under load, again
// and again, on one database. Every 202 ends exactly once with whole output or an
// error, a submission without an answer may be repeated and is one task, no attempt
// reaches the engine twice, and no task that a reader has seen a token of runs again
// (G1 to G3, ORC-246, 404, 640, 654). 10 kills; 500 with LLORCH_NIGHTLY=1.
func TestKill9AtRandom(t *testing.T) {
	t.Parallel()
	whole(t)
	kills := 10
	if nightly() {
		kills = 500
	}
	book := &workBook{arrived: map[string]int{}, finished: map[string]int{}, attempts: map[string]int{}}
	sim := workertest.Start(workertest.Config{Slots: 4, Queue: 64, Tokens: 100, Latency: &workertest.Latency{Base: time.Millisecond, Token: 2 * time.Millisecond}, Trace: book.note})
	defer sim.Close()
	c := &crowd{t: t, runs: book, ids: map[int]string{}, seen: map[string]int{}}
	state := t.TempDir()
	begin := func() *program {
		return controlPlane(t, state, "ORCHESTRATORD_ENGINES=sim="+sim.URL, "ORCHD_ADMISSION_CAPACITY=-1", "LLORCH_LOG_LEVEL=error")
	}
	rng := rand.New(rand.NewPCG(9, uint64(kills)))
	for round := range kills {
		o := begin()
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				for !o.exited() && ctx.Err() == nil && !healthy(ctx, o.url) { // it takes up tasks
				}
				c.submit(ctx, o.url, true)
			})
		}
		if round%3 > 0 { // else also while it starts
			within(t, 20*time.Second, "the program is ready", func() bool { return healthy(ctx, o.url) })
		}
		pause := time.NewTimer(time.Duration(rng.IntN(120)) * time.Millisecond)
		<-pause.C
		o.signal(syscall.SIGKILL)
		o.wait()
		cancel()
		wg.Wait()
	}
	o := begin()
	within(t, 20*time.Second, "the program is ready", func() bool { return healthy(t.Context(), o.url) })
	within(t, 20*time.Second, "every submission has its answer", func() bool {
		c.submit(t.Context(), o.url, false)
		return len(c.open) == 0
	})
	within(t, 2*time.Minute, "all accepted tasks have ended", func() bool {
		return len(pages(t, o, "&status=queued"))+len(pages(t, o, "&status=dispatched"))+len(pages(t, o, "&status=running"))+len(pages(t, o, "&status=cancelling")) == 0
	})
	c.judge(o)
	o.signal(syscall.SIGTERM)
	if code := o.wait(); code != 0 {
		t.Errorf("exit %d: %s", code, o.errs)
	}
}

// healthy reports whether a program admits tasks.
func healthy(ctx context.Context, url string) bool {
	req, err := http.NewRequestWithContext(ctx, "GET", url+"/v1/models", nil)
	if err != nil {
		return false
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	var list struct{ Data []any }
	return json.NewDecoder(res.Body).Decode(&list) == nil && len(list.Data) > 0
}

// pages lists all tasks of a query.
func pages(t *testing.T, o *program, query string) (out []taskapi.Task) {
	t.Helper()
	before := ""
	for {
		list := decode[taskapi.TaskList](t, o.call("GET", "/v2/tasks?limit=1000"+query+before, "", ""), http.StatusOK)
		if out = append(out, list.Tasks...); list.NextBefore == "" {
			return out
		}
		before = "&before=" + list.NextBefore
	}
}

// judge looks at every task after the last fault.
func (c *crowd) judge(o *program) {
	t := c.t
	tasks := map[string]taskapi.Task{}
	for _, task := range pages(t, o, "") {
		if _, twice := tasks[task.TaskID]; twice {
			t.Errorf("%s is listed twice", task.TaskID)
		}
		tasks[task.TaskID] = task
	}
	if len(tasks) != c.next || len(c.ids) != c.next {
		t.Errorf("%d tasks and %d answers for %d submissions", len(tasks), len(c.ids), c.next)
	}
	states, rerun := map[string]int{}, 0
	sample := 0
	for key, id := range c.ids {
		task, ok := tasks[id]
		states[task.Status]++
		code := taskapi.Code("")
		if task.Error != nil {
			code = task.Error.Code
		}
		switch {
		case !ok:
			t.Errorf("the task of submission %d is lost", key)
		case task.Status == "completed" && task.TokensOut != crashTokens:
			t.Errorf("%s is completed with %d tokens, want %d", id, task.TokensOut, crashTokens)
		case task.Status == "failed" && code != taskapi.WorkerReset:
			t.Errorf("%s failed with %s", id, code)
		case task.Status != "completed" && task.Status != "failed":
			t.Errorf("%s is %s", id, task.Status)
		case c.seen[id] > crashTokens:
			t.Errorf("a reader got %d tokens of %d", c.seen[id], crashTokens)
		case c.seen[id] > 0 && task.Attempt != c.runs.attempts[id]:
			t.Errorf("%s ran again after a reader had seen %d tokens", id, c.seen[id])
		}
		if task.Attempt > 1 {
			rerun++
		}
		if sample++; sample%20 == 0 || task.Status == "failed" && sample%3 == 0 {
			c.oneEnd(o, task)
		}
	}
	c.runs.mu.Lock()
	defer c.runs.mu.Unlock()
	done, again := 0, 0
	for attempt, n := range c.runs.arrived {
		if n > 1 {
			t.Errorf("attempt %s reached the engine %d times", attempt, n)
		}
	}
	for id, n := range c.runs.finished {
		done += n
		if again += n - 1; tasks[id].Status == "completed" && n > tasks[id].Attempt {
			t.Errorf("%s was finished %d times in %d attempts", id, n, tasks[id].Attempt)
		}
	}
	t.Logf("%d tasks: %v, %d ran again, %d submissions were repeated; the engine finished %d runs, %d of them twice", len(tasks), states, rerun, c.retried, done, again)
}

// oneEnd reads the whole stream of an ended task.
func (c *crowd) oneEnd(o *program, task taskapi.Task) {
	t := c.t
	got := all(t, o.stream("", task.TaskID, 0))
	ends, tokens := 0, 0
	for i, e := range got {
		switch e.typ {
		case "end", "error":
			ends++
		case "token":
			tokens++
		}
		if i > 0 && e.id <= got[i-1].id {
			t.Errorf("%s: event id %d after %d", task.TaskID, e.id, got[i-1].id)
		}
	}
	if ends != 1 || len(got) == 0 || !slices.Contains([]string{"end", "error"}, got[len(got)-1].typ) || task.Status == "completed" && tokens != crashTokens {
		t.Errorf("%s, %s: %d events, %d of them ends, %d tokens", task.TaskID, task.Status, len(got), ends, tokens)
	}
}
