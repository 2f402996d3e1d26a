package authmin

import (
	"net/http"
	"strconv"
	"time"
)

// Refusal is the answer to a request that does not pass the gate. Its texts
// are fixed: nothing of the request is in them, and a client cannot tell an
// expired token from an unknown one. It wraps the sentinel of the cause for
// the program's own use.
type Refusal struct {
	Status     int           // HTTP status
	Code       string        // UNAUTHENTICATED, FORBIDDEN or AUTH_UNAVAILABLE
	Reason     string        // finer than Code, for logs and metrics
	AuthCode   int           // finest: status and two digits
	Message    string        // one sentence for people
	Hint       string        // what the caller can do
	Challenge  string        // WWW-Authenticate value; "" = none
	RetryAfter time.Duration // 0 = retrying does not help
	cause      func() error  // behind a function, because a Verifier's text must not be printed with the rest
}

// Error returns the message.
func (r *Refusal) Error() string { return "authmin: " + r.Message }

// HTTPStatus returns Status.
func (r *Refusal) HTTPStatus() int { return r.Status }

// Unwrap returns the cause, nil if there is none. Its text may come from a
// Verifier.
func (r *Refusal) Unwrap() error {
	if r.cause == nil {
		return nil
	}
	return r.cause()
}

// because returns what Refusal.cause holds.
func because(err error) func() error { return func() error { return err } }

// Reasons, a closed set.
const (
	reasonMissing     = "MISSING_TOKEN"
	reasonBadToken    = "BAD_TOKEN"
	reasonNotLocal    = "NON_LOOPBACK_WITHOUT_TOKEN"
	reasonCrossOrigin = "CROSS_ORIGIN"
	reasonHost        = "HOST_NOT_ALLOWED"
	reasonDown        = "VERIFIER_DOWN"
)

// refusalFor turns the outcome of a token check into the answer. class is
// ErrMissing, ErrMalformed, ErrRejected, or nil if the verifier cannot decide.
func refusalFor(class, cause error, realm string) *Refusal {
	challenge := `Bearer realm="` + realm + `"`
	r := &Refusal{Status: http.StatusUnauthorized, Code: "UNAUTHENTICATED", cause: because(cause)}
	switch class {
	case ErrMissing:
		r.Reason, r.AuthCode, r.Challenge = reasonMissing, 40101, challenge
		r.Message, r.Hint = "A token is required.", "Send the header Authorization: Bearer <token>."
	case ErrMalformed:
		r.Reason, r.AuthCode, r.Challenge = reasonBadToken, 40102, challenge+`, error="invalid_request"`
		r.Message, r.Hint = "The token is not valid.", "Send exactly one header Authorization: Bearer <token>."
	case ErrRejected:
		r.Reason, r.AuthCode, r.Challenge = reasonBadToken, 40102, challenge+`, error="invalid_token"`
		r.Message, r.Hint = "The token is not valid.", "Ask the operator for a live token."
	default:
		r.Status, r.Code, r.Reason, r.AuthCode = http.StatusServiceUnavailable, "AUTH_UNAVAILABLE", reasonDown, 50301
		r.Message, r.Hint, r.RetryAfter = "Tokens cannot be checked right now.", "Retry shortly.", time.Second
	}
	return r
}

func refusalNotLocal() *Refusal {
	return &Refusal{
		Status: http.StatusForbidden, Code: "FORBIDDEN", Reason: reasonNotLocal, AuthCode: 40301, Message: "Only local requests are served without a token.",
		Hint: "Connect from the same machine without a proxy, or let the operator configure a token.", cause: because(ErrNoKeys),
	}
}

func refusalCrossOrigin(cause error) *Refusal {
	return &Refusal{
		Status: http.StatusForbidden, Code: "FORBIDDEN", Reason: reasonCrossOrigin, AuthCode: 40303, Message: "Cross-origin requests need a token.",
		Hint: "Send a token, or call from a page of the same origin.", cause: because(cause),
	}
}

func refusalHost() *Refusal {
	return &Refusal{
		Status: http.StatusMisdirectedRequest, Code: "FORBIDDEN", Reason: reasonHost, AuthCode: 42101, Message: "This host name is not served here.",
		Hint: "Use localhost or an IP address, or let the operator allow the name.", cause: because(ErrHostNotListed),
	}
}

// answerWriter lets a hook write the body of a refusal; status and the headers
// of the refusal are the gate's.
type answerWriter struct {
	http.ResponseWriter
	refusal *Refusal
	head    bool // the method is HEAD: no body
	wrote   bool
}

// Unwrap is missing on purpose: through it the status could be changed.

// WriteHeader sends the refusal's status, whatever it is given.
func (w *answerWriter) WriteHeader(int) {
	if w.wrote {
		return
	}
	w.wrote = true
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	if w.refusal.Challenge != "" {
		h.Set("WWW-Authenticate", w.refusal.Challenge)
	}
	if w.refusal.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int((w.refusal.RetryAfter+time.Second-1)/time.Second)))
	}
	w.ResponseWriter.WriteHeader(w.refusal.Status)
}

func (w *answerWriter) Write(p []byte) (int, error) {
	w.WriteHeader(w.refusal.Status)
	if w.head {
		return len(p), nil
	}
	return w.ResponseWriter.Write(p)
}

// plainAnswer is the default body.
func plainAnswer(w http.ResponseWriter, _ *http.Request, r *Refusal) {
	http.Error(w, r.Message, r.Status)
}
