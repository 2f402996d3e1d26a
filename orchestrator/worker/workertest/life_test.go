package workertest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/orchestrator/worker"
	"github.com/llorch/llorch/orchestrator/worker/workertest"
)

// TestConditions: request, after, p, and the header only where it is enabled.
func TestConditions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n workertest.Net
		e := n.Start(workertest.Config{Preset: "zero", RequestFaults: true, Faults: parse(t, "status:500@request=2;status:501@after=1m,request=4")})
		plain := n.Start(workertest.Config{Preset: "zero", Faults: parse(t, "status:502@p=0.3")})
		defer e.Close()
		defer plain.Close()
		c := &http.Client{Transport: &http.Transport{DialContext: n.Dial}}
		defer c.CloseIdleConnections()
		ask := func(e *workertest.Engine, fault string) int {
			status, _ := post(t, c, e.URL+"/v1/completions", `{"prompt":"p"}`, "X-Sim-Fault", fault)
			return status
		}
		got := []int{ask(e, ""), ask(e, ""), ask(e, "status:418")}
		<-time.After(time.Minute)
		got = append(got, ask(e, ""), ask(e, ""), ask(e, "nonsense"))
		for i, want := range []int{200, 500, 418, 501, 200, 400} {
			if got[i] != want {
				t.Errorf("request %d: %d, want %d", i+1, got[i], want)
			}
		}
		failed := 0
		for range 200 {
			if status := ask(plain, "status:418"); status == 502 {
				failed++
			} else if status != 200 {
				t.Fatalf("status %d", status)
			}
		}
		if failed < 40 || failed > 80 {
			t.Errorf("%d of 200 failed, want about 60", failed)
		}
		if err := plain.SetFaults(); err != nil || ask(plain, "") != 200 {
			t.Errorf("without faults: %v", err)
		}
		if err := plain.SetFaults(workertest.Fault{Kind: "nonsense"}); err == nil {
			t.Error("SetFaults took nonsense")
		}
	})
}

// TestRefuseLater: from then on nobody is let in; who is in is served.
func TestRefuseLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n workertest.Net
		e := n.Start(workertest.Config{Tokens: 5, Faults: parse(t, "refuse@after=2s"), Latency: &workertest.Latency{Token: time.Second}})
		defer e.Close()
		d, err := worker.NewDialer(worker.Config{Dial: n.Dial})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		status, answer := post(t, &http.Client{Transport: &http.Transport{DialContext: n.Dial, DisableKeepAlives: true}}, e.URL+"/v1/completions", `{"prompt":"p"}`)
		if status != 200 {
			t.Errorf("%d %s", status, answer)
		}
		_, err = d.Start(t.Context(), worker.Target{URL: e.URL}, &worker.Job{Kind: worker.Completion, Prompt: "p"})
		if f, ok := err.(*worker.Failure); !ok || f.Class != worker.Connect {
			t.Errorf("after 2 s: %v", err)
		}
	})
}

// TestTrace covers SIM-7's events: in order, with the text, without the prompt.
func TestTrace(t *testing.T) {
	var lines bytes.Buffer
	enc := json.NewEncoder(&lines)
	var kinds []string
	e := workertest.Start(workertest.Config{Preset: "zero", Tokens: 2, Faults: parse(t, "bad-json@token=1"), Trace: func(ev workertest.Event) {
		kinds = append(kinds, ev.Event)
		if err := enc.Encode(ev); err != nil {
			t.Error(err)
		}
	}})
	status, answer := post(t, http.DefaultClient, e.URL+"/v1/completions", `{"prompt":"canary","stream":true}`, "Idempotency-Key", "t-1", "X-Correlation-Id", "c-1")
	e.Close()
	if status != 200 || !strings.Contains(answer, "[DONE]") {
		t.Errorf("%d %s", status, answer)
	}
	if got := strings.Join(kinds, " "); got != "arrived started token fault token finished" {
		t.Errorf("events: %s", got)
	}
	if s := lines.String(); strings.Contains(s, "canary") || !strings.Contains(s, `"key":"t-1","correlation_id":"c-1"`) || !strings.Contains(s, `"fault":"bad-json@token=1"`) {
		t.Errorf("trace:\n%s", s)
	}
	if rs := e.Requests(); len(rs) != 1 || rs[0].Outcome != workertest.Finished || rs[0].Tokens != 2 || rs[0].Key != "t-1" || rs[0].Ended.Before(rs[0].Started) {
		t.Errorf("Requests = %+v", rs)
	}
}

// TestShutdownFinishes: what runs is finished, what comes is refused.
func TestShutdownFinishes(t *testing.T) {
	e := workertest.Start(workertest.Config{Tokens: 20, Preset: "fast"})
	status := make(chan int)
	go func() {
		s, _ := post(t, http.DefaultClient, e.URL+"/v1/completions", `{"prompt":"p","stream":true}`)
		status <- s
	}()
	if err := e.Wait(t.Context(), func(st workertest.Stats) bool { return st.Tokens > 0 }); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := e.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if s := <-status; s != 200 || e.Stats().Finished != 1 {
		t.Errorf("status %d, Stats %+v", s, e.Stats())
	}
	if s, msg := post(t, http.DefaultClient, e.URL+"/v1/completions", `{"prompt":"p"}`); s != 0 {
		t.Errorf("after Shutdown: %d %s", s, msg)
	}
}

// TestEngineConcurrentSafe: many clients that finish, leave and are refused.
func TestEngineConcurrentSafe(t *testing.T) {
	e := workertest.Start(workertest.Config{Preset: "fast", Tokens: 10, Slots: 4, Queue: 8})
	defer e.Close()
	d, err := worker.NewDialer(worker.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	const clients = 60
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			s, err := d.Start(t.Context(), worker.Target{URL: e.URL, Slots: 16}, &worker.Job{Kind: worker.Completion, Prompt: "p"})
			if err != nil {
				return
			}
			defer s.Close()
			for n := 0; err == nil && (i%3 > 0 || n < 3); n++ {
				_, err = s.Next()
			}
		})
	}
	wg.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := e.Wait(ctx, func(st workertest.Stats) bool {
		return st.Arrived == clients && st.Finished+st.Cancelled+st.Refused+st.Broken == clients && st.Running == 0 && st.Waiting == 0
	}); err != nil {
		t.Errorf("%v: %+v", err, e.Stats())
	}
}
