package deadline

import (
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// maxDrain is up to how much of a request body net/http discards itself before it
// sends the header; of a longer one it discards nothing and ends the connection.
const maxDrain = 256 << 10

// requestBody holds the connection's read deadline while net/http may wait for
// the request body, and only then. Afterwards the server keeps a read pending to
// notice a client that hangs up; a deadline that fires in that read cancels the
// connection's context, and so every later request on a kept-alive connection.
type requestBody struct {
	io.ReadCloser
	rc    *http.ResponseController
	http1 bool
	last  bool      // the client ends the connection after this exchange
	limit time.Time // the server's own, by its ReadTimeout; zero = none

	mu    sync.Mutex // full duplex: one goroutine reads, another one writes
	at    time.Time  // the read deadline; zero = none set
	done  bool       // nobody waits for the body any more
	fired bool       // a read ended by a read deadline
	left  int64      // of Content-Length; negative = unknown
}

// bodyOf returns r's body, which r itself keeps; nil if it has none.
func bodyOf(w http.ResponseWriter, r *http.Request, arrival time.Time) *requestBody {
	if r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	b := &requestBody{
		ReadCloser: r.Body, rc: http.NewResponseController(w),
		http1: r.ProtoMajor == 1, last: r.Close, left: r.ContentLength,
	}
	if srv, ok := r.Context().Value(http.ServerContextKey).(*http.Server); ok && srv.ReadTimeout > 0 {
		b.limit = arrival.Add(srv.ReadTimeout)
	}
	return b
}

func (b *requestBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	timeout, ok := errors.AsType[net.Error](err)
	b.mu.Lock()
	b.left -= int64(n)
	b.fired = b.fired || ok && timeout.Timeout()
	b.mu.Unlock()
	if err == io.EOF { //nolint:errorlint // io.Reader promises the bare value
		b.release()
	}
	return n, err
}

// Close discards what net/http would; then nobody waits for the rest.
func (b *requestBody) Close() error {
	defer b.release()
	return b.ReadCloser.Close()
}

// hold sets the read deadline while the body may still be waited for; never later
// than the server's own.
func (b *requestBody) hold(at time.Time) {
	if b == nil {
		return
	}
	if !b.limit.IsZero() && b.limit.Before(at) {
		at = b.limit
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.done && b.rc.SetReadDeadline(at) == nil {
		b.at = at
	}
}

// release ends hold for good, because the body has ended.
func (b *requestBody) release() { b.end(time.Time{}) }

// giveUp ends hold for good, whatever is to come; the server's own limit stays.
func (b *requestBody) giveUp() {
	if b != nil {
		b.end(b.limit)
	}
}

func (b *requestBody) end(then time.Time) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done = true
	if !b.at.IsZero() {
		_ = b.rc.SetReadDeadline(then)
		b.at = time.Time{}
	}
}

// abandon ends hold for good and asks nothing more of the connection.
func (b *requestBody) abandon() {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done, b.at = true, time.Time{}
}

// forgo is for an answer without a handler. Over HTTP/1 it goes out before the
// server waits for the body, which may never come, and the connection ends.
func (b *requestBody) forgo(h http.Header) {
	if b != nil && b.http1 {
		h.Set("Connection", "close")
		b.hold(time.Now().Add(readGrace))
	}
}

// drained reports whether net/http discards the body before it sends the header.
// It does not for HTTP/2, on a connection that ends, or if too much is left. A
// body of unknown length counts as short.
func (b *requestBody) drained() bool {
	if b == nil {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.http1 && !b.last && b.left < maxDrain
}

// cutOff reports whether a read ended by a read deadline.
func (b *requestBody) cutOff() bool {
	if b == nil {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.fired
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
