package workertest

import (
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// plan is what goes wrong in one request.
type plan []Fault

// planFor chooses the faults whose conditions hold for a request.
func (e *Engine) planFor(r *http.Request, number int64, rng *rand.Rand) (plan, error) {
	all := slices.Clone(e.activeFaults())
	if e.cfg.RequestFaults {
		own, err := ParseFaults(r.Header.Get("X-Sim-Fault"))
		if err != nil {
			return nil, err
		}
		all = append(all, own...)
	}
	age := time.Since(e.born)
	return slices.DeleteFunc(all, func(f Fault) bool {
		return f.Request > 0 && f.Request != number || age < f.After || f.P > 0 && rng.Float64() >= f.P
	}), nil
}

func (p plan) get(kind string) (Fault, bool) {
	i := slices.IndexFunc(p, func(f Fault) bool { return f.Kind == kind })
	if i < 0 {
		return Fault{}, false
	}
	return p[i], true
}

func (p plan) has(kind string) bool {
	_, ok := p.get(kind)
	return ok
}

// hit reports whether the plan has a fault of that kind, and records it.
func (j *job) hit(kind string) bool {
	f, ok := j.plan.get(kind)
	if ok {
		j.e.book.fault(j.req, f)
	}
	return ok
}

// place is the number of tokens after which f strikes.
func (f Fault) place() int {
	if f.Token >= 0 {
		return f.Token
	}
	return kinds()[f.Kind].token
}

// before does what goes wrong before anything is answered. Running means: go on.
func (j *job) before() (Outcome, int) {
	if j.hit("refuse") {
		j.e.refuse()
		panic(http.ErrAbortHandler)
	}
	if o := j.strike(beforeHeader); o != Running {
		return o, 0
	}
	if j.hit("health-lies") {
		fail(j.w, http.StatusServiceUnavailable, "Loading model")
		return Refused, http.StatusServiceUnavailable
	}
	if f, ok := j.plan.get("retry-after"); ok {
		j.e.book.fault(j.req, f)
		j.w.Header().Set("Retry-After", f.Arg)
		fail(j.w, http.StatusTooManyRequests, "try again later")
		return Refused, http.StatusTooManyRequests
	}
	if f, ok := j.plan.get("status"); ok {
		j.e.book.fault(j.req, f)
		fail(j.w, f.number(), "injected status "+strconv.Itoa(f.number()))
		return Refused, f.number()
	}
	return Running, 0
}

// strike does what goes wrong after n tokens. Running means: go on.
func (j *job) strike(n int) Outcome {
	for _, f := range j.plan {
		if f.place() != n {
			continue
		}
		j.e.book.fault(j.req, f)
		if o := j.fault(f); o != Running {
			return o
		}
	}
	return Running
}

func (j *job) fault(f Fault) Outcome {
	switch f.Kind {
	case "reset":
		j.sever()
	case "exit":
		if j.e.cfg.Hooks.Exit == nil {
			j.e.Kill()
		} else {
			j.e.cfg.Hooks.Exit(f.Arg)
		}
	case "oom":
		if j.e.cfg.Hooks.OOM == nil {
			j.e.Kill()
		} else {
			j.e.cfg.Hooks.OOM()
		}
	case "leak-vram":
		j.e.leaked.Store(true)
		if j.e.cfg.Hooks.Leak != nil {
			j.e.cfg.Hooks.Leak()
		}
		return Running
	case "duplicate":
		j.again = true
		return Running
	case "stall":
		select {
		case <-j.ctx.Done():
		case <-j.e.stop:
		}
		return j.left()
	case "bad-utf8":
		j.out.spoil(f.Arg == "cut")
		return Running
	default:
		return j.garble(f.Kind)
	}
	return Broken
}

// longLine is above every limit that a reader of lines has.
const longLine = 1<<20 + 1<<10

// garble sends what a reader can not use. A document that should have been sent
// whole ends there.
func (j *job) garble(kind string) Outcome {
	j.out.header("application/json") // of a stream it is sent already
	half := []byte(`data: {"choices":[{"index":0,`)
	switch {
	case !j.p.Stream:
		j.out.bytes([]byte(`{"choices":[{`))
		return Broken
	case kind == "truncate":
		j.out.bytes(half)
		return Broken
	case kind == "stream-error":
		j.out.frame([]byte(`{"error":{"code":500,"message":"injected","type":"server_error"}}`))
		return Broken
	case kind == "bad-json":
		j.out.bytes(append(half, "\n\n"...))
	case kind == "long-line":
		j.out.bytes([]byte("data: " + strings.Repeat("x", longLine) + "\n\n"))
	}
	return Running
}

// sever breaks the connection, with a reset where the network knows one.
func (j *job) sever() {
	conn, _, err := j.rc.Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}
