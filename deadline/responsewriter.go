package deadline

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
)

// responseWriter remembers whether the response has begun. Only the handler's
// goroutine uses it, like every ResponseWriter.
type responseWriter struct {
	http.ResponseWriter
	ex      *exchange
	body    *requestBody // nil: the request has none
	started bool
	duplex  bool  // the handler may read the body after it began to answer
	written int64 // by Write
}

// bufferLen is what net/http buffers before it sends the header; by then it has
// discarded the rest of the request body, unless the exchange is full duplex.
const bufferLen = 2048

// sent tells that the header has left.
func (w *responseWriter) sent() {
	if !w.duplex && w.body.drained() {
		w.body.release()
	}
}

// EnableFullDuplex passes on. With a request body over HTTP/1 it also makes this
// the connection's last exchange: where a read deadline ends the body after the
// header has left, net/http goes on with the rest of it as if it were the next
// request. Once the status is fixed it is too late for that, and the read
// deadline is given up instead.
func (w *responseWriter) EnableFullDuplex() error {
	err := http.NewResponseController(w.ResponseWriter).EnableFullDuplex()
	if err == nil {
		w.duplex = true
		if w.started {
			w.body.giveUp()
		}
		w.closeLast()
	}
	return err
}

// begin is called before the first thing that fixes the status.
func (w *responseWriter) begin() {
	if !w.started {
		w.closeLast() // the handler may have set Connection, as event streams often do
		w.ex.begin()
		w.started = true
	}
}

func (w *responseWriter) closeLast() {
	if w.duplex && !w.started && w.body != nil && w.body.http1 {
		w.Header().Set("Connection", "close")
	}
}

// Unwrap lets http.ResponseController reach the connection.
func (w *responseWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader passes on; informational answers other than 101 begin nothing.
func (w *responseWriter) WriteHeader(status int) {
	if status >= 200 || status == http.StatusSwitchingProtocols {
		w.begin()
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *responseWriter) Write(p []byte) (int, error) {
	w.begin()
	n, err := w.ResponseWriter.Write(p)
	if w.written += int64(n); w.written > bufferLen {
		w.sent()
	}
	return n, err
}

// Flush serves callers that assert http.Flusher.
func (w *responseWriter) Flush() { _ = w.FlushError() }

// FlushError sends what is there; a flush sends the header too.
func (w *responseWriter) FlushError() error {
	w.closeLast()
	w.ex.begin()
	err := http.NewResponseController(w.ResponseWriter).Flush()
	if !errors.Is(err, http.ErrNotSupported) {
		w.begin()
		w.sent()
	}
	return err
}

// Hijack hands the connection over; nothing may be answered on it afterwards, and
// its deadlines are the handler's.
func (w *responseWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil {
		w.started = true
		w.ex.done()
		w.body.abandon()
	}
	return c, rw, err
}

// sniffLen is how much net/http copies itself before it hands over to sendfile.
const sniffLen = 512

// ReadFrom keeps sendfile possible. The first bytes go through Write, so that a
// source that fails before its first byte leaves the response unwritten.
func (w *responseWriter) ReadFrom(src io.Reader) (int64, error) {
	rf, ok := w.ResponseWriter.(io.ReaderFrom)
	if !ok {
		return io.Copy(writerOnly{w}, src)
	}
	n, err := io.Copy(writerOnly{w}, io.LimitReader(src, sniffLen))
	if err != nil || n < sniffLen {
		return n, err
	}
	w.sent() // it is about to
	rest, err := rf.ReadFrom(src)
	return n + rest, err
}

// writerOnly hides ReadFrom from io.Copy.
type writerOnly struct{ io.Writer }
