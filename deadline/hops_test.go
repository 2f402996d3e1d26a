package deadline_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/llorch/llorch/deadline"
)

// visit is what one hop saw of one request, all instants on one clock.
type visit struct {
	arrived time.Time // before anything of the middleware ran
	entered time.Time // when the handler began
	stated  deadline.Deadline
	bound   deadline.Deadline // of the handler's context
	left    time.Time         // before the next hop was called
	header  http.Header
}

// chain is five servers on real sockets, each with a Middleware and, but for the
// last, a Transport to the next one. They are ordinary reverse proxies.
type chain struct {
	mu     sync.Mutex
	visits [hops]visit
	url    string // of the first hop
	client *http.Client
}

const hops = 5

// tick covers that a time.Time holds two clocks, which are read one after the
// other: an absolute statement goes from the first clock to the second.
const tick = time.Millisecond

// newChain builds the servers from the last one up; margins[i] is kept back on
// the way to hop i, by the client for the first one.
func newChain(t *testing.T, margins [hops]time.Duration, forward forwarder, last http.HandlerFunc) *chain {
	t.Helper()
	c := &chain{}
	m, err := deadline.New(deadline.Config{Answer: answer})
	if err != nil {
		t.Fatal(err)
	}
	work := http.Handler(last)
	for i := hops - 1; i >= 0; i-- {
		inner := m.Wrap(c.entered(i, work))
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			now := time.Now()
			d, err := deadline.FromHeader(r.Header, now)
			if err != nil {
				t.Errorf("hop %d: %v", i, err)
			}
			c.mu.Lock()
			c.visits[i] = visit{arrived: now, stated: d, header: r.Header.Clone()}
			c.mu.Unlock()
			inner.ServeHTTP(w, r)
		}))
		t.Cleanup(srv.Close)
		c.url = srv.URL
		base := http.DefaultTransport.(*http.Transport).Clone()
		t.Cleanup(base.CloseIdleConnections) // runs before the server above it closes
		out := &deadline.Transport{Base: base, Margin: margins[i], Hop: "hop" + strconv.Itoa(i)}
		c.client = &http.Client{Transport: out}
		work = forward(t, srv.URL, out)
	}
	return c
}

// entered notes when the handler of hop i began and with which deadline, then
// spends a few milliseconds of it.
func (c *chain) entered(i int, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		now := time.Now()
		d, _ := deadline.From(r.Context())
		wait(r.Context(), 3*time.Millisecond)
		c.mu.Lock()
		c.visits[i].entered, c.visits[i].bound, c.visits[i].left = now, d, time.Now()
		c.mu.Unlock()
		next.ServeHTTP(w, r)
	})
}

// forwarder makes the handler that passes requests on to a URL.
type forwarder func(t *testing.T, to string, via http.RoundTripper) http.Handler

// streaming passes on what comes, as it comes.
func streaming(t *testing.T, to string, via http.RoundTripper) http.Handler {
	t.Helper()
	target, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	return &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }, Transport: via}
}

// whole answers with all of the next hop's answer or, once its own time is over,
// with nothing.
func whole(t *testing.T, to string, via http.RoundTripper) http.Handler {
	t.Helper()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out, err := http.NewRequestWithContext(r.Context(), r.Method, to, nil)
		if err != nil {
			t.Error(err)
			return
		}
		resp, err := via.RoundTrip(out)
		var body []byte
		if err == nil {
			defer resp.Body.Close()
			body, err = io.ReadAll(resp.Body)
		}
		if err != nil {
			<-r.Context().Done() // a margin may be left, or the hop before has given up
			return
		}
		maps.Copy(w.Header(), resp.Header)
		w.WriteHeader(resp.StatusCode)
		_, _ = w.Write(body)
	})
}

// answer is a hook that writes a body of its own.
func answer(w http.ResponseWriter, _ *http.Request, status int, err error) {
	stage := ""
	if e, ok := errors.AsType[*deadline.Exceeded](err); ok {
		stage = e.Stage
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"code": "DEADLINE_UNMET", "stage": stage})
}

// get sends one request into the chain; header pairs state what it may take.
func (c *chain) get(ctx context.Context, t *testing.T, client *http.Client, pairs ...string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(pairs); i += 2 {
		r.Header.Set(pairs[i], pairs[i+1])
	}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

var marginCases = [][hops]time.Duration{
	{},
	{5 * time.Millisecond, 5 * time.Millisecond, 5 * time.Millisecond, 5 * time.Millisecond, 5 * time.Millisecond},
	{20 * time.Millisecond, 0, 5 * time.Millisecond, 20 * time.Millisecond, 0},
}

// G1, DL-9, DL-10: over five real hops the time left never grows, a hop takes at
// most its margin, a millisecond of rounding and what it really spent, all five
// together likewise, and X-Deadline arrives everywhere as it left the client.
// Nothing here is compared with how fast the machine is.
func TestFiveHops(t *testing.T) {
	for _, margins := range marginCases {
		for name, pairs := range map[string]func(time.Time) []string{
			"absolute, RFC 3339": func(at time.Time) []string {
				return []string{"X-Deadline", at.In(time.FixedZone("", 7200)).Format("2006-01-02T15:04:05.000000Z07:00")}
			},
			"absolute, milliseconds": func(at time.Time) []string { return []string{"X-Deadline", strconv.FormatInt(at.UnixMilli(), 10)} },
			"relative":               func(time.Time) []string { return []string{"X-Request-Timeout-Ms", "30000"} },
			"gRPC":                   func(time.Time) []string { return []string{"Grpc-Timeout", "30S"} },
			"context":                nil,
		} {
			t.Run(fmt.Sprint(name, margins), func(t *testing.T) {
				c := newChain(t, margins, streaming, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "done") })
				at := time.Now().Add(30 * time.Second)
				var resp *http.Response
				if pairs == nil { // the client is a hop too
					ctx, cancel := deadline.With(t.Context(), deadline.At(at))
					defer cancel()
					resp = c.get(ctx, t, c.client)
				} else {
					resp = c.get(t.Context(), t, http.DefaultClient, pairs(at)...)
				}
				if body, err := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK || string(body) != "done" || err != nil {
					t.Fatalf("%d %q, %v", resp.StatusCode, body, err)
				}
				c.mu.Lock()
				defer c.mu.Unlock()
				var said string
				if pairs != nil {
					said = pairs(at)[1]
				}
				c.checkText(t, name, said, at)
				c.checkLoss(t, margins)
			})
		}
	}
}

// checkText wants one and the same X-Deadline wherever one was sent, and nothing
// stale beside it.
func (c *chain) checkText(t *testing.T, name, said string, at time.Time) {
	t.Helper()
	want := c.visits[1].header.Get("X-Deadline") // the first hop may be the one that writes it
	switch name {
	case "absolute, RFC 3339", "absolute, milliseconds":
		want = said
	case "context":
		want = deadline.At(at).Wire()
	default:
		if c.visits[0].header.Get("X-Deadline") != "" {
			t.Error("the client's X-Deadline came from nowhere")
		}
	}
	for i, v := range c.visits {
		if i == 0 && want != said && name != "context" {
			continue
		}
		if got := v.header["X-Deadline"]; len(got) != 1 || got[0] != want {
			t.Errorf("hop %d: X-Deadline %q, want %q", i, got, want)
		}
		if i > 0 && (len(v.header["X-Request-Timeout-Ms"]) != 1 || v.header.Get("Grpc-Timeout") != "") {
			t.Errorf("hop %d: %v", i, v.header)
		}
	}
}

// checkLoss compares neighbours. The last instant before a call and the first one
// after it enclose everything between, however long a busy machine makes it.
func (c *chain) checkLoss(t *testing.T, margins [hops]time.Duration) {
	t.Helper()
	var allowed time.Duration
	first := c.visits[0]
	for i, v := range c.visits {
		if by := v.bound.Time().Sub(v.stated.Time()); by < -tick || by > v.entered.Sub(v.arrived)+tick {
			t.Errorf("hop %d: its context ends %v after what was stated on arrival", i, by)
		}
		if i == 0 {
			continue
		}
		before := c.visits[i-1]
		got := v.stated.Time().Sub(v.arrived)
		if most := before.bound.Time().Sub(before.left) - margins[i]; got > most {
			t.Errorf("hop %d has %v, hop %d had %v when it called and keeps %v back", i, got, i-1, most+margins[i], margins[i])
		}
		if least := before.bound.Time().Sub(v.arrived) - margins[i] - time.Millisecond; got < least-tick {
			t.Errorf("hop %d lost %v more than its margin of %v and a millisecond", i, least-got, margins[i])
		}
		allowed += margins[i] + time.Millisecond
		if total := first.bound.Time().Sub(v.arrived) - got; total > allowed+tick {
			t.Errorf("after hop %d %v are lost, want at most %v", i, total, allowed)
		}
	}
}

// G5, DL-14, DL-18: the last of five hops is too slow: the client gets one 504,
// with the promised headers and the body of a hook, not before the time is over.
func TestFiveHopsTooSlow(t *testing.T) {
	for _, margins := range marginCases {
		t.Run(fmt.Sprint(margins), func(t *testing.T) {
			c := newChain(t, margins, whole, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
			const budget = 150 * time.Millisecond
			shrunk := budget - time.Millisecond // Config.Min
			for _, m := range margins[1:] {
				shrunk -= m + time.Millisecond
			}
			began := time.Now()
			resp := c.get(t.Context(), t, http.DefaultClient, "X-Request-Timeout-Ms", strconv.FormatInt(budget.Milliseconds(), 10))
			took, h := time.Since(began), resp.Header
			if took < shrunk {
				t.Errorf("answered after %v, want no less than %v", took, shrunk)
			}
			by, err := strconv.Atoi(h.Get("X-Deadline-Exceeded-By-Ms"))
			if resp.StatusCode != http.StatusGatewayTimeout || h.Get("Cache-Control") != "no-store" || h.Get("Retry-After") != "1" || by < 0 || err != nil {
				t.Errorf("%d, %v", resp.StatusCode, h)
			}
			body, err := io.ReadAll(resp.Body)
			var got map[string]string
			if err := errors.Join(err, json.Unmarshal(body, &got)); err != nil || got["code"] != "DEADLINE_UNMET" || got["stage"] == "" {
				t.Errorf("body %q, %v", body, err)
			}
		})
	}
}

// G5, DL-16: a stream passes five hops event by event: the server writes the next
// one only after the client has read the last, so one buffer on the way would
// stop it until the deadline.
func TestFiveHopsStream(t *testing.T) {
	const events = 20
	read := make(chan struct{})
	c := newChain(t, marginCases[2], streaming, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range events {
			fmt.Fprintf(w, "data: token %d\n\n", i)
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
			select {
			case <-read:
			case <-r.Context().Done():
				return
			}
		}
	})
	resp := c.get(t.Context(), t, http.DefaultClient, "X-Request-Timeout-Ms", "20000")
	in := bufio.NewReader(resp.Body)
	for i := range events {
		event, err := in.ReadString('\n')
		blank, err2 := in.ReadString('\n')
		if want := fmt.Sprintf("data: token %d\n", i); event != want || blank != "\n" || errors.Join(err, err2) != nil {
			t.Fatalf("%q, %v, want %q", event+blank, errors.Join(err, err2), want)
		}
		read <- struct{}{}
	}
	if rest, err := io.ReadAll(in); len(rest) > 0 || err != nil {
		t.Errorf("%q, %v after the last event", rest, err)
	}
}
