package narration

import (
	"bufio"
	"io"
	"net"
	"net/http"
)

const headerCorrelation = "X-Correlation-Id"

// responseWriter counts, and keeps the correlation id on the response whatever
// the handler copies into its header. Only the handler's goroutine uses it.
type responseWriter struct {
	http.ResponseWriter
	correlation string
	status      int // 0 until the header was sent
	bytes       int64
}

// Unwrap lets http.ResponseController reach the connection.
func (w *responseWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader passes on the first final status and all informational ones.
func (w *responseWriter) WriteHeader(status int) {
	if w.status != 0 {
		return
	}
	w.Header()[headerCorrelation] = []string{w.correlation}
	if status >= 200 || status == http.StatusSwitchingProtocols {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *responseWriter) begin() {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
}

func (w *responseWriter) Write(p []byte) (int, error) {
	w.begin()
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	return n, err
}

// Flush serves callers that assert http.Flusher.
func (w *responseWriter) Flush() { _ = w.FlushError() }

// FlushError sends what is there, the header too.
func (w *responseWriter) FlushError() error {
	w.begin()
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Hijack hands the connection over; the event then tells status 101.
func (w *responseWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil && w.status == 0 {
		w.status = http.StatusSwitchingProtocols
	}
	return c, rw, err
}

// sniffLen is how much net/http looks at before it decides on a content type.
const sniffLen = 512

// ReadFrom keeps sendfile possible. The first bytes go through Write, so that a
// source that fails at once leaves the response unwritten.
func (w *responseWriter) ReadFrom(src io.Reader) (int64, error) {
	rf, ok := w.ResponseWriter.(io.ReaderFrom)
	if !ok {
		return io.Copy(writerOnly{w}, src)
	}
	n, err := io.Copy(writerOnly{w}, io.LimitReader(src, sniffLen))
	if err != nil || n < sniffLen {
		return n, err
	}
	rest, err := rf.ReadFrom(src)
	w.bytes += rest
	return n + rest, err
}

// writerOnly hides ReadFrom from io.Copy.
type writerOnly struct{ io.Writer }
