package server

import (
	"bytes"
	"log/slog"
	"sync"
	"time"
)

// serverLog takes what net/http says. Most of it is about one client's connection
// and of use to nobody; that no connection can be accepted is an operator's matter.
type serverLog struct {
	log *slog.Logger

	mu   sync.Mutex
	told time.Time
}

// Write implements io.Writer; it is called once a message.
func (l *serverLog) Write(p []byte) (int, error) {
	text := string(bytes.TrimSpace(p))
	if !bytes.Contains(p, []byte("Accept error")) {
		l.log.Debug(text)
		return len(p), nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); l.told.IsZero() || now.Sub(l.told) >= time.Minute {
		l.told = now
		l.log.Warn("Connections cannot be accepted.", slog.String("event", "accept_failed"), slog.String("error", text))
	}
	return len(p), nil
}
