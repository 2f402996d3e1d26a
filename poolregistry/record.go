package poolregistry

import (
	"context"
	"log/slog"
	"time"
)

// record is something to be logged once the lock is released.
type record struct {
	level slog.Level
	text  string
	attrs []slog.Attr
}

func (s *state) note(level slog.Level, text string, attrs ...slog.Attr) {
	s.records = append(s.records, record{level, text, attrs})
}

// noteMove notes that a node went from one state to another.
func (s *state) noteMove(e *entry, from, to Liveness, reason string, silence time.Duration) {
	level := slog.LevelInfo
	if to == Offline {
		level = slog.LevelWarn
	}
	s.note(level, "node "+string(to), e.node.attr(), slog.Uint64("epoch", e.node.Epoch), slog.String("from", string(from)),
		slog.String("to", string(to)), slog.String("reason", reason), slog.Int64("silence_ms", silence.Milliseconds()))
}

func (n *Node) attr() slog.Attr { return slog.String("node", string(n.ID)) }

func (r record) log(l *slog.Logger) { l.LogAttrs(context.Background(), r.level, r.text, r.attrs...) }
