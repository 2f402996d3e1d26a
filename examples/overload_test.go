package examples_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/llorch/llorch/orchestrator/worker/workertest"
)

// demand is one call of an overload, made once for all runs.
type demand struct {
	at     time.Duration // after the start
	tokens int
	limit  time.Duration // in which it is of use
}

const (
	overSlots = 4
	overToken = 6 * time.Millisecond
)

// workload makes calls for d at a rate of load times what the engine can do.
func workload(d time.Duration, load float64) (out []demand) {
	rng := rand.New(rand.NewPCG(5, 5))
	const least, most = 5, 40
	mean := (least + most) / 2 * overToken
	gap := float64(mean) / overSlots / load
	for at := time.Duration(0); at < d; at += time.Duration(rng.ExpFloat64() * gap) {
		n := least + rng.IntN(most-least+1)
		out = append(out, demand{at, n, time.Duration(n)*overToken + time.Duration(200+rng.IntN(400))*time.Millisecond})
	}
	return out
}

// outcome counts how calls ended, by their callers.
type outcome struct {
	good, late, refused, gaveUp, other int
	waste                              int // tokens that the engine made for nobody
}

// overload runs a workload against a server of its own. A caller who tells the
// deadline sends X-Deadline; the others only go away when it is over.
func overload(t *testing.T, list []demand, tell bool) (o outcome) {
	t.Helper()
	sim := workertest.Start(workertest.Config{Slots: overSlots, Queue: 64, Tokens: 200, Latency: &workertest.Latency{Token: overToken, Jitter: 0.2}})
	defer sim.Close()
	p := controlPlane(t, t.TempDir(), "ORCHESTRATORD_ENGINES=sim="+sim.URL, "ORCHD_ADMISSION_CAPACITY=1000", "ORCHESTRATORD_STORE=memory", "LLORCH_LOG_LEVEL=error")
	within(t, 10*time.Second, "the engine is found", func() bool { return ready(t, p) })
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256}}
	defer client.CloseIdleConnections()
	one := func(tokens int, limit time.Duration, tell bool) (int, error) {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		text := fmt.Sprintf(`{"model":"sim-8b","prompt":"Why?","max_tokens":%d,"stream":true}`, tokens)
		req, err := http.NewRequestWithContext(ctx, "POST", p.url+"/v1/completions", strings.NewReader(text))
		if err != nil {
			return 0, err
		}
		req.Header.Set("Content-Type", "application/json")
		if tell {
			req.Header.Set("X-Deadline", strconv.FormatInt(time.Now().Add(limit).UnixMilli(), 10))
		}
		res, err := client.Do(req)
		if err != nil {
			return 0, err
		}
		defer res.Body.Close()
		answer, err := io.ReadAll(res.Body)
		if err == nil && res.StatusCode == http.StatusOK && !strings.Contains(string(answer), "[DONE]") {
			return http.StatusGatewayTimeout, nil // its end was an error
		}
		return res.StatusCode, err
	}
	for i := range 24 { // the estimator learns
		if status, err := one(5+i, 5*time.Second, false); err != nil || status != http.StatusOK {
			t.Fatal(status, err)
		}
	}
	before := sim.Stats().Tokens
	var mu sync.Mutex
	var wg sync.WaitGroup
	began := time.Now()
	useful := 0
	for _, d := range list {
		pause := time.NewTimer(d.at - time.Since(began))
		<-pause.C
		wg.Go(func() {
			sent := time.Now()
			status, err := one(d.tokens, d.limit+20*time.Millisecond, tell)
			took := time.Since(sent)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				o.gaveUp++
			case status == http.StatusOK && took <= d.limit:
				o.good++
				useful += d.tokens
			case status == http.StatusOK:
				o.late++
			case slices.Contains([]int{http.StatusGatewayTimeout, http.StatusTooManyRequests}, status):
				o.refused++
			default:
				o.other++
			}
		})
	}
	wg.Wait()
	o.waste = int(sim.Stats().Tokens-before) - useful
	return o
}

// TestOverloadOfWholeProgram: at 1.5 times what the engine can do, callers who tell
// their deadlines get at least as much done in time as callers of the same demand
// who only give up, and hear it at once when it is hopeless (ORC-250, chapter 7).
func TestOverloadOfWholeProgram(t *testing.T) {
	whole(t)
	d := 2 * time.Second
	if nightly() {
		d = 30 * time.Second
	}
	list := workload(d, 1.5)
	fifo, told := overload(t, list, false), overload(t, list, true)
	t.Logf("%d calls in %v; deadlines told: %+v; first come, first served: %+v; goodput %.2f times", len(list), d, told, fifo, float64(told.good)/float64(max(1, fifo.good)))
	if told.good < fifo.good {
		t.Errorf("%d calls in time with deadlines told, %d without", told.good, fifo.good)
	}
	if told.other > 0 || fifo.other > 0 || told.refused == 0 || fifo.good == 0 {
		t.Errorf("with deadlines %+v, without %+v", told, fifo)
	}
	if admitted := len(list) - told.refused; nightly() && told.late+told.gaveUp > admitted/10 { // the goal of chapter 7 is half of it, on a quiet machine
		t.Errorf("%d of %d admitted calls missed their deadlines", told.late+told.gaveUp, admitted)
	}
}
