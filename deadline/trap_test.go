package deadline_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/deadline"
)

// DL-16: unlike http.TimeoutHandler, the wrapper leaves flushing to the handler.
func TestTrap_TimeoutHandlerHidesFlusher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seen := make(chan struct{})
		client := serve(t, wrap(t, deadline.Config{Default: time.Minute}, func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, "data: 1\n\n")
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
			<-seen // only what was flushed lets the client go on
		}))
		resp, err := client.Get("http://hop/")
		if err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(resp.Body).ReadString('\n')
		close(seen)
		if err != nil || line != "data: 1\n" {
			t.Errorf("%q, %v", line, err)
		}
		resp.Body.Close()
	})
}

// DL-15: the write deadline of the connection follows the request's, so that a
// stream may outlive the server's WriteTimeout.
func TestTrap_WriteTimeoutKillsSSE(t *testing.T) {
	h := wrap(t, deadline.Config{Default: time.Minute}, func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		for range 20 {
			fmt.Fprint(w, "data: x\n\n")
			if err := rc.Flush(); err != nil {
				t.Error(err)
				return
			}
			wait(r.Context(), 10*time.Millisecond)
		}
	})
	srv := httptest.NewUnstartedServer(h)
	srv.Config.WriteTimeout = 50 * time.Millisecond
	srv.Start()
	defer srv.Close()
	resp, err := srv.Client().Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if n := strings.Count(string(body), "data:"); n != 20 || err != nil {
		t.Errorf("%d events, %v", n, err)
	}
}

// wait blocks for d of real time, or until ctx ends.
func wait(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	<-ctx.Done()
}

// DL-3: "0S" is a valid statement, and it is exhausted.
func TestTrap_ZeroTimeout(t *testing.T) {
	d, err := deadline.FromHeader(http.Header{"Grpc-Timeout": {"0S"}}, time.Now())
	if err != nil || d.IsZero() || !d.Expired() {
		t.Errorf("0S: %+v, %v", d, err)
	}
}

// proxy forwards everything that came in, as naive gateways do.
func proxy(t *testing.T, seen *http.Header, work time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		tr := &deadline.Transport{Base: roundTripper(func(r *http.Request) (*http.Response, error) {
			*seen = r.Header
			return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
		})}
		time.Sleep(work)
		out, _ := http.NewRequestWithContext(r.Context(), http.MethodGet, "http://next/", nil)
		out.Header = r.Header.Clone()
		resp, err := tr.RoundTrip(out)
		if err != nil {
			t.Error(err)
			return
		}
		resp.Body.Close()
	}
}

// DL-9: a copied grpc-timeout never reaches the next hop.
func TestTrap_IncomingForwarded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen http.Header
		client := serve(t, wrap(t, deadline.Config{}, proxy(t, &seen, 0)))
		call(t, client, nil, "Grpc-Timeout", "7S")
		if seen.Get("Grpc-Timeout") != "" || seen.Get("X-Request-Timeout-Ms") != "7000" {
			t.Errorf("forwarded %v", seen)
		}
	})
}

// DL-10: the relative form shrinks by the time that this hop took.
func TestTrap_StaticValue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen http.Header
		client := serve(t, wrap(t, deadline.Config{}, proxy(t, &seen, 1200*time.Millisecond)))
		call(t, client, nil, "X-Request-Timeout-Ms", "5000")
		if seen.Get("X-Request-Timeout-Ms") != "3800" {
			t.Errorf("forwarded %v", seen)
		}
	})
}

// A header that is parsed must also be enforced.
func TestTrap_TimeoutForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		client := serve(t, wrap(t, deadline.Config{}, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
		resp, _ := call(t, client, nil, "X-Deadline", start.Add(2*time.Second).Format(time.RFC3339))
		if resp.StatusCode != 504 || time.Since(start) != 2*time.Second {
			t.Errorf("%d after %v", resp.StatusCode, time.Since(start))
		}
	})
}

// G2, DL-7: after parsing only the monotonic clock counts. An arrival whose wall
// reading is an hour off stands for a clock that is stepped during the request:
// the statement is as far ahead of that reading as the client meant it.
func TestTrap_WallClockStep(t *testing.T) {
	for _, step := range []time.Duration{-time.Hour, time.Hour} {
		stepped := newYear.Add(step)
		d, err := deadline.FromHeader(http.Header{"X-Deadline": {stepped.Add(time.Minute).Format(time.RFC3339)}}, stepped)
		if err != nil || d.Time().Sub(stepped) != time.Minute {
			t.Errorf("step %v: %v, %v", step, d.Time().Sub(stepped), err)
		}
	}
	now := time.Now()
	d, err := deadline.FromHeader(http.Header{"X-Deadline": {now.Add(time.Minute).Format(time.RFC3339Nano)}}, now)
	if err != nil || !strings.Contains(d.Time().String(), "m=+") {
		t.Errorf("%v carries no monotonic reading, %v", d.Time(), err)
	}
}

// DL-1: seconds are not taken for milliseconds.
func TestTrap_SecondsAsMillis(t *testing.T) {
	_, err := deadline.FromHeader(http.Header{"X-Deadline": {"1767225605"}}, newYear)
	if e, ok := errors.AsType[*deadline.FormatError](err); !ok || !strings.Contains(e.Reason, "seconds") {
		t.Errorf("error %v", err)
	}
}

// DL-8, DL-10: the year 9999 is Max, and its text travels on all the same.
func TestTrap_FarFuture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var left time.Duration
		var sent string
		client := serve(t, wrap(t, deadline.Config{Max: time.Minute}, func(_ http.ResponseWriter, r *http.Request) {
			d, _ := deadline.From(r.Context())
			left, sent = d.Remaining(), d.Wire()
		}))
		if call(t, client, nil, "X-Deadline", "9999-12-31T23:59:59Z"); left != time.Minute || sent != "9999-12-31T23:59:59Z" {
			t.Errorf("%v left, sent on %q", left, sent)
		}
	})
}

// DL-2, DL-4: negative relative values are refused everywhere.
func TestTrap_NegativeRelative(t *testing.T) {
	for _, key := range []string{"X-Request-Timeout-Ms", "Grpc-Timeout"} {
		if _, err := deadline.FromHeader(http.Header{key: {"-5S"}}, newYear); err == nil {
			t.Errorf("%s: -5S accepted", key)
		}
	}
	if _, cancel, err := deadline.MergeRelative(t.Context(), -5); err == nil {
		cancel()
		t.Error("deadline_ms -5 accepted")
	}
}
