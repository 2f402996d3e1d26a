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
	if !w.duplex {
		w.body.release()
	}
}

// EnableFullDuplex passes on. With a request body over HTTP/1 it also makes this
// the connection's last exchange: where a read deadline ends the body after the
// header has left, net/http goes on with the rest of it as if it were the next
// request.
func (w *responseWriter) EnableFullDuplex() error {
	err := http.NewResponseController(w.ResponseWriter).EnableFullDuplex()
	if err == nil {
		w.duplex = true
		if w.body != nil && w.body.http1 {
			w.Header().Set("Connection", "close")
		}
	}
	return err
}

// Unwrap lets http.ResponseController reach the connection.
func (w *responseWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader passes on; informational answers other than 101 begin nothing.
func (w *responseWriter) WriteHeader(status int) {
	if status >= 200 || status == http.StatusSwitchingProtocols {
		w.started = true
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *responseWriter) Write(p []byte) (int, error) {
	w.started = true
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
	err := http.NewResponseController(w.ResponseWriter).Flush()
	if !errors.Is(err, http.ErrNotSupported) {
		w.started = true
		w.sent()
	}
	return err
}

// Hijack hands the connection over; nothing may be answered afterwards.
func (w *responseWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil {
		w.started = true
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
