package authmin

import (
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	failureWindow  = time.Minute
	failuresShown  = 10 // per failureWindow; the rest is counted
	maxShownPath   = 256
	maxShownMethod = 32
)

// Event is one decision of a [Gate].
type Event struct {
	At            time.Time
	Principal     Principal // of a rejected token only the FP6, and only of one of 32 bytes or more
	AuthCode      int       // of the refusal; 0 = allowed
	Reason        string    // of the refusal; "" = allowed
	Client        netip.Addr
	Method, Path  string // as in a Go string literal of ASCII; Path at most 256 bytes, Method 32
	CorrelationID string // as a middleware outside the gate set it on the response; "" otherwise
	// Suppressed counts the failures without an event of their own since the
	// last event. Counters add 1 + Suppressed.
	Suppressed int
}

// limiter leaves out failures beyond failuresShown in a window, and counts them.
type limiter struct {
	mu         sync.Mutex
	start      time.Time // of the window, monotonic
	failures   int       // in the window
	suppressed int       // since the last event
}

// take reports whether a decision gets an event, and how many failures without
// event that event carries.
func (l *limiter) take(now time.Time, failed bool) (emit bool, suppressed int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if failed {
		if l.start.IsZero() || now.Sub(l.start) >= failureWindow {
			l.start, l.failures = now, 0
		}
		l.failures++
		if l.failures > failuresShown {
			l.suppressed++
			return false, 0
		}
	}
	suppressed, l.suppressed = l.suppressed, 0
	return true, suppressed
}

// report tells the observer and the log about a decision. It writes the event
// only if somebody looks at it.
func (g *Gate) report(r *http.Request, p Principal, refusal *Refusal, response http.Header) {
	now := time.Now()
	emit, suppressed := g.limiter.take(now, refusal != nil)
	if !emit {
		return
	}
	level, msg := slog.LevelDebug, "auth_success"
	switch {
	case refusal != nil && refusal.Reason == reasonDown:
		level, msg = slog.LevelError, "auth_verifier_down"
	case refusal != nil:
		level, msg = slog.LevelWarn, "auth_failed"
	case suppressed > 0:
		level = slog.LevelWarn // so that the count is not lost with the debug records
	}
	ctx := r.Context()
	logged := g.logger.Enabled(ctx, level)
	if !logged && g.observe == nil {
		return
	}
	e := Event{
		At: now, Principal: p, Client: p.Client, Suppressed: suppressed, CorrelationID: knownCorrelationID(response.Get("X-Correlation-Id")),
		Method: quoteMax(r.Method, maxShownMethod), Path: quoteMax(r.URL.Path, maxShownPath),
	}
	if refusal != nil {
		e.Reason, e.AuthCode = refusal.Reason, refusal.AuthCode
	}
	if g.observe != nil {
		g.observe(ctx, e)
	}
	if logged {
		g.logger.LogAttrs(ctx, level, msg,
			slog.String("identity", e.Principal.String()), slog.Int("auth_code", e.AuthCode), slog.String("reason", e.Reason),
			slog.String("client", clientText(e.Client)), slog.String("method", e.Method), slog.String("path", e.Path),
			slog.String("correlation_id", e.CorrelationID), slog.Int("suppressed", e.Suppressed))
	}
}

func clientText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// quoteMax writes s as in a Go string literal of ASCII, cut to limit bytes.
func quoteMax(s string, limit int) string {
	if len(s) <= limit && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' }) {
		return s
	}
	quoted := strconv.QuoteToASCII(s[:min(len(s), limit)])
	quoted = quoted[1 : len(quoted)-1]
	return quoted[:min(len(quoted), limit)]
}

// knownCorrelationID returns id if it has the suite's form, else "".
func knownCorrelationID(id string) string {
	if isWord(id, 64, "-") {
		return id
	}
	return ""
}
