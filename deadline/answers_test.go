package deadline_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/deadline"
)

// DL-2, DL-4, DL-5, DL-18: every kind of answer over HTTP/1.1 and HTTP/2, with
// exactly the headers that it owes, and never with what was stated.
func TestAnswers(t *testing.T) {
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		stated  []string
		status  int
		by      string // X-Deadline-Exceeded-By-Ms
		body    string
	}{
		"in time":              {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "fine") }, []string{"Grpc-Timeout", "1S"}, 200, "", "fine"},
		"malformed X-Deadline": {nil, []string{"X-Deadline", "secret-1767225605"}, 400, "", "X-Deadline: neither Unix milliseconds nor RFC 3339\n"},
		"malformed timeout":    {nil, []string{"X-Request-Timeout-Ms", "secret"}, 400, "", "X-Request-Timeout-Ms: not 1 to 10 digits\n"},
		"malformed gRPC":       {nil, []string{"Grpc-Timeout", "secret"}, 400, "", "grpc-timeout: not 1 to 8 digits and a unit\n"},
		"two values in one":    {nil, []string{"X-Request-Timeout-Ms", "5000, 5000"}, 400, "", "X-Request-Timeout-Ms: not 1 to 10 digits\n"},
		"field twice":          {nil, []string{"Grpc-Timeout", "5S", "Grpc-Timeout", "5S"}, 400, "", "grpc-timeout: given twice\n"},
		"exhausted":            {nil, []string{"X-Request-Timeout-Ms", "0"}, 504, "0", "deadline exceeded (stage arrival, budget 0s)\n"},
		"past": {
			nil,
			[]string{"X-Deadline", "1999-12-31T23:59:57.7501Z"}, // virtual time begins at the year 2000
			504, "2249", "deadline exceeded (stage arrival, budget -2.2499s)\n",
		},
		"during the work": {hang, []string{"X-Request-Timeout-Ms", "1000"}, 504, "0", "deadline exceeded (stage handler, budget 1s)\n"},
		"late": {
			func(http.ResponseWriter, *http.Request) { time.Sleep(1500*time.Millisecond - 1) },
			[]string{"X-Request-Timeout-Ms", "1000"},
			504, "499", "deadline exceeded (stage handler, budget 1s)\n",
		},
		"body": {
			func(_ http.ResponseWriter, r *http.Request) {
				ctx, cancel, _ := deadline.MergeRelative(r.Context(), 700)
				defer cancel()
				<-ctx.Done()
			},
			nil, 504, "0", "deadline exceeded (stage handler, budget 700ms)\n",
		},
	} {
		for major := 1; major <= 2; major++ {
			t.Run(fmt.Sprintf("%s, HTTP/%d", name, major), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					handler := c.handler
					if handler == nil {
						handler = func(http.ResponseWriter, *http.Request) { t.Error("the handler ran") }
					}
					resp, body := call(t, serveOver(t, major, wrap(t, deadline.Config{}, handler)), nil, c.stated...)
					if resp.ProtoMajor != major || resp.StatusCode != c.status || body != c.body {
						t.Errorf("%s %d %q, want %d %q", resp.Proto, resp.StatusCode, body, c.status, c.body)
					}
					store, retry := "", ""
					if c.status != 200 {
						store = "no-store"
					}
					if c.status == 504 {
						retry = "1"
					}
					for key, want := range map[string]string{"Cache-Control": store, "Retry-After": retry, "X-Deadline-Exceeded-By-Ms": c.by} {
						if got := resp.Header.Get(key); got != want {
							t.Errorf("%s: %q, want %q", key, got, want)
						}
					}
					if strings.Contains(fmt.Sprint(resp.Header, body), "secret") {
						t.Errorf("what was stated comes back: %v %q", resp.Header, body)
					}
				})
			})
		}
	}
}

// DL-14: an event stream crosses its deadline over HTTP/1.1 and HTTP/2. Before
// anything of it left, the client gets a 504 and no trace of the stream; from the
// header on the stream is the handler's, down to its own error event.
func TestEventStreamCrossesDeadline(t *testing.T) {
	for name, c := range map[string]struct {
		before func(w http.ResponseWriter)
		status int
		body   string
	}{
		"before anything":       {func(http.ResponseWriter) {}, 504, "deadline exceeded (stage handler, budget 1s)\n"},
		"after the header":      {func(w http.ResponseWriter) { w.(http.Flusher).Flush() }, 200, "event: error\n\n"},
		"after the first event": {func(w http.ResponseWriter) { fmt.Fprint(w, "data: 1\n\n"); w.(http.Flusher).Flush() }, 200, "data: 1\n\nevent: error\n\n"},
	} {
		for major := 1; major <= 2; major++ {
			t.Run(fmt.Sprintf("%s, HTTP/%d", name, major), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					expiries := 0
					cfg := deadline.Config{Hooks: deadline.Hooks{Exceeded: func(*deadline.Exceeded) { expiries++ }}}
					client := serveOver(t, major, wrap(t, cfg, func(w http.ResponseWriter, r *http.Request) {
						w.Header().Set("Content-Type", "text/event-stream")
						w.Header().Set("Etag", `"stream"`)
						c.before(w)
						<-r.Context().Done()
						if c.status == 200 {
							fmt.Fprint(w, "event: error\n\n")
						}
					}))
					began := time.Now()
					resp, body := call(t, client, nil, "X-Request-Timeout-Ms", "1000")
					streamed := resp.Header.Get("Content-Type") == "text/event-stream" && resp.Header.Get("Etag") != ""
					if resp.StatusCode != c.status || body != c.body || streamed != (c.status == 200) || expiries != 1 || time.Since(began) != time.Second {
						t.Errorf("%d %q after %v, %v, %d expiries", resp.StatusCode, body, time.Since(began), resp.Header, expiries)
					}
				})
			})
		}
	}
}

// wireAnswer is the hook of a program with error codes, after the table in the
// README.
func wireAnswer(w http.ResponseWriter, _ *http.Request, status int, err error) {
	details := map[string]any{}
	code := "DEADLINE_UNMET"
	retriable := false
	if e, ok := errors.AsType[*deadline.Exceeded](err); ok {
		details["stage"], details["budget_ms"], details["exceeded_by_ms"] = e.Stage, e.Budget.Milliseconds(), max(e.Over(), 0).Milliseconds()
		if e.Hop != "" {
			details["hop"] = e.Hop
		}
	} else if e, ok := errors.AsType[*deadline.Insufficient](err); ok {
		retriable = true
		details["need_ms"], details["remaining_ms"] = e.Need.Milliseconds(), e.Remaining.Milliseconds()
	} else if e, ok := errors.AsType[*deadline.FormatError](err); ok {
		if e.Source != deadline.SourceBody {
			code = "INVALID_PARAMS"
		}
		details["source"], details["reason"] = e.Source, e.Reason
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"code": code, "retriable": retriable, "details": details})
}

// DL-18: everything that the table of answers promises can be written from what
// the errors carry; the answers that the program gives itself use the same hook.
func TestWireAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		stated string
		want   string
	}{
		"work":         {"250", `504 {"code":"DEADLINE_UNMET","details":{"budget_ms":250,"exceeded_by_ms":0,"stage":"handler"},"retriable":false}`},
		"call":         {"9000", `504 {"code":"DEADLINE_UNMET","details":{"budget_ms":9000,"exceeded_by_ms":0,"hop":"worker","stage":"dispatch"},"retriable":false}`},
		"insufficient": {"8000", `504 {"code":"DEADLINE_UNMET","details":{"need_ms":60000,"remaining_ms":8000},"retriable":true}`},
		"body":         {"7000", `400 {"code":"DEADLINE_UNMET","details":{"reason":"not positive","source":"deadline_ms"},"retriable":false}`},
		"malformed":    {"x", `400 {"code":"INVALID_PARAMS","details":{"reason":"not 1 to 10 digits","source":"X-Request-Timeout-Ms"},"retriable":false}`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := wrap(t, deadline.Config{Answer: wireAnswer}, func(w http.ResponseWriter, r *http.Request) {
					switch name {
					case "work":
						<-r.Context().Done()
					case "call":
						time.Sleep(8500 * time.Millisecond)
						out, _ := http.NewRequestWithContext(r.Context(), http.MethodGet, "http://hop/", nil)
						resp, err := (&deadline.Transport{Margin: time.Second, Hop: "worker"}).RoundTrip(out)
						if err == nil {
							resp.Body.Close()
						}
						wireAnswer(w, r, http.StatusGatewayTimeout, err)
					case "insufficient":
						wireAnswer(w, r, http.StatusGatewayTimeout, deadline.Require(r.Context(), time.Minute))
					case "body":
						_, cancel, err := deadline.MergeRelative(r.Context(), 0)
						defer cancel()
						wireAnswer(w, r, http.StatusBadRequest, err)
					}
				})
				w, r := newRecorder(), newRequest(t)
				r.Header.Set("X-Request-Timeout-Ms", c.stated)
				h.ServeHTTP(w, r)
				if got := fmt.Sprint(w.Code, " ", strings.TrimSpace(w.Body.String())); got != c.want {
					t.Errorf("%s, want %s", got, c.want)
				}
			})
		})
	}
}
