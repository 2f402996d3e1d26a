package deadline_test

import (
	"context"
	"net/http"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/deadline"
)

// sources are all the places that a request's deadline can come from, each with
// how it states d after now.
func sources() map[string]func(r *http.Request, d time.Duration) *http.Request {
	header := func(key string, text func(time.Duration) string) func(*http.Request, time.Duration) *http.Request {
		return func(r *http.Request, d time.Duration) *http.Request {
			r.Header.Set(key, text(d))
			return r
		}
	}
	ms := func(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
	return map[string]func(*http.Request, time.Duration) *http.Request{
		"X-Deadline":           header("X-Deadline", func(d time.Duration) string { return time.Now().Add(d).Format(time.RFC3339Nano) }),
		"X-Request-Timeout-Ms": header("X-Request-Timeout-Ms", ms),
		"grpc-timeout":         header("Grpc-Timeout", func(d time.Duration) string { return ms(d) + "m" }),
		"deadline_ms":          header("Body-Deadline-Ms", ms), // stands for the body, see below
		"outer context": func(r *http.Request, d time.Duration) *http.Request {
			ctx, cancel := context.WithTimeout(r.Context(), d)
			context.AfterFunc(ctx, cancel)
			return r.WithContext(ctx)
		},
	}
}

// DL-6, DL-13: of every pair of sources, in both orders, the earlier one bounds
// the handler, gives the 504 and is what the next hop gets; X-Deadline travels on
// as it came in.
func TestPrecedence(t *testing.T) {
	const early, late = 2 * time.Second, 5 * time.Second
	all := sources()
	for one := range all {
		for other := range all {
			synctest.Test(t, func(t *testing.T) {
				var left time.Duration
				out := http.Header{}
				h := wrap(t, deadline.Config{}, func(_ http.ResponseWriter, r *http.Request) {
					ctx := r.Context()
					if text := r.Header.Get("Body-Deadline-Ms"); text != "" {
						time.Sleep(500 * time.Millisecond) // reading the body
						ms, _ := strconv.ParseInt(text, 10, 64)
						var cancel context.CancelFunc
						var err error
						if ctx, cancel, err = deadline.MergeRelative(ctx, ms); err != nil {
							t.Error(err)
						}
						defer cancel()
					}
					d, _ := deadline.From(ctx)
					left = d.Remaining()
					if err := deadline.Inject(ctx, out, 0); err != nil {
						t.Error(err)
					}
					<-ctx.Done()
				})
				w, r := newRecorder(), newRequest(t)
				r = all[one](r, early)
				if other != one {
					r = all[other](r, late)
				}
				began := time.Now()
				h.ServeHTTP(w, r)
				want := early
				if r.Header.Get("Body-Deadline-Ms") != "" {
					want -= 500 * time.Millisecond
				}
				if left != want || w.Code != http.StatusGatewayTimeout || time.Since(began) != early {
					t.Errorf("%s before %s: %v left, want %v; %d after %v", one, other, left, want, w.Code, time.Since(began))
				}
				if out.Get("X-Request-Timeout-Ms") != strconv.FormatInt(want.Milliseconds(), 10) {
					t.Errorf("%s before %s: sent on %v, want %v", one, other, out, want)
				}
				if in := r.Header.Get("X-Deadline"); in != "" && out.Get("X-Deadline") != in {
					t.Errorf("%s before %s: X-Deadline %q travels on as %q", one, other, in, out.Get("X-Deadline"))
				}
			})
		}
	}
}

// DL-8: Min is what must be left on arrival; exactly that is enough.
func TestMin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			min    time.Duration
			stated string
			want   int
		}{
			{0, "1m", 200},
			{0, "999u", 504},
			{0, "0n", 504},
			{20 * time.Millisecond, "20m", 200},
			{20 * time.Millisecond, "19999u", 504},
		} {
			ran := false
			h := wrap(t, deadline.Config{Min: c.min}, func(http.ResponseWriter, *http.Request) { ran = true })
			w, r := newRecorder(), newRequest(t)
			r.Header.Set("Grpc-Timeout", c.stated)
			h.ServeHTTP(w, r)
			if w.Code != c.want || ran != (c.want == 200) {
				t.Errorf("Min %v, stated %s: %d, want %d; the handler ran: %v", c.min, c.stated, w.Code, c.want, ran)
			}
			if by := w.Header().Get("X-Deadline-Exceeded-By-Ms"); c.want == 504 && by != "0" { // it is still ahead: DL-18
				t.Errorf("Min %v, stated %s: exceeded by %q", c.min, c.stated, by)
			}
		}
	})
}

// DL-13: the handler's context ends at what was stated, with an Exceeded that
// tells the whole budget as its cause.
func TestCause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		arrived := time.Now()
		h := wrap(t, deadline.Config{}, func(_ http.ResponseWriter, r *http.Request) {
			if at, ok := r.Context().Deadline(); !ok || at.Sub(arrived) != time.Second {
				t.Errorf("the context ends after %v, %v", at.Sub(arrived), ok)
			}
			time.Sleep(time.Second)
			synctest.Wait()
			e, ok := context.Cause(r.Context()).(*deadline.Exceeded)
			if !ok || e.Stage != deadline.StageHandler || e.Budget != time.Second || !e.At.Equal(arrived.Add(time.Second)) {
				t.Errorf("cause %#v", context.Cause(r.Context()))
			}
		})
		w, r := newRecorder(), newRequest(t)
		r.Header.Set("X-Request-Timeout-Ms", "1000")
		h.ServeHTTP(w, r)
	})
}
