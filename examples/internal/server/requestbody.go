package server

import (
	"io"
	"net/http"
	"time"
)

// bodyTime is how long the body of a request may take. The largest one there is by
// default, 8 MiB, needs about 1 Mbit/s.
const bodyTime = time.Minute

// requestBody ends the connection's read deadline when the body is there.
type requestBody struct {
	io.ReadCloser
	rc    *http.ResponseController
	ended bool
}

func (b *requestBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF && !b.ended { //nolint:errorlint // io.Reader promises the bare value
		b.ended = true
		_ = b.rc.SetReadDeadline(time.Time{})
	}
	return n, err
}

// bounded lets no client hold a connection by a body that does not come: net/http
// would wait for it without end, also before it sends a refusal.
func bounded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body == nil || r.Body == http.NoBody {
			next.ServeHTTP(w, r)
			return
		}
		b := &requestBody{ReadCloser: r.Body, rc: http.NewResponseController(w)}
		_ = b.rc.SetReadDeadline(time.Now().Add(bodyTime))
		r = r.WithContext(r.Context()) // a copy: the caller's request stays as it is
		r.Body = b
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			leave(w, r) // nobody will read it
		}
		next.ServeHTTP(w, r)
	})
}

// leave makes this the connection's last exchange if the request has a body: its
// end may never come, and the answer goes out at once this way.
func leave(w http.ResponseWriter, r *http.Request) {
	if r.Body != nil && r.Body != http.NoBody {
		w.Header().Set("Connection", "close")
	}
}
