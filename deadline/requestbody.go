package deadline

import (
	"io"
	"net/http"
	"sync"
	"time"
)

// requestBody holds the connection's read deadline while net/http may wait for
// the request body, and only then. Afterwards the server keeps a read pending to
// notice a client that hangs up; a deadline that fires in that read cancels the
// connection's context, and so every later request on a kept-alive connection.
type requestBody struct {
	io.ReadCloser
	rc    *http.ResponseController
	http1 bool

	mu   sync.Mutex // full duplex: one goroutine reads, another one writes
	at   time.Time  // the read deadline; zero = none set
	done bool       // nobody waits for the body any more
}

func (b *requestBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF { //nolint:errorlint // io.Reader promises the bare value
		b.release()
	}
	return n, err
}

// hold sets the read deadline while the body may still be waited for.
func (b *requestBody) hold(at time.Time) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.done && b.rc.SetReadDeadline(at) == nil {
		b.at = at
	}
}

// release ends hold for good.
func (b *requestBody) release() {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done = true
	if !b.at.IsZero() {
		_ = b.rc.SetReadDeadline(time.Time{})
		b.at = time.Time{}
	}
}

// leave gives the server, which is about to discard what the handler left
// unread, a deadline that has not fired yet. It reports whether the old one had.
func (b *requestBody) leave() (fired bool) {
	if b == nil {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if fired = !b.at.IsZero() && time.Until(b.at) <= 0; fired {
		_ = b.rc.SetReadDeadline(time.Now().Add(readGrace))
	}
	return fired
}
