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
	if to == Offline {
		s.lost = append(s.lost, e.node.ID)
	}
	s.note(slog.LevelInfo, "node "+string(to), e.node.attr(), slog.Uint64("epoch", e.node.Epoch), slog.String("from", string(from)),
		slog.String("to", string(to)), slog.String("reason", reason), slog.Int64("silence_ms", silence.Milliseconds()))
}

// maxNames is how many node ids one log record names.
const maxNames = 10

// takeRecords returns what is to be logged, with one warning for all nodes that
// went offline in this step.
func (s *state) takeRecords() []record {
	if n := len(s.lost); n > 0 {
		s.note(slog.LevelWarn, "nodes offline", slog.Int("nodes", n), slog.Int("online", s.tally[Online]),
			slog.Int("suspect", s.tally[Suspect]), slog.Int("offline", s.tally[Offline]),
			slog.Any("ids", s.lost[:min(n, maxNames)]))
	}
	out := s.records
	s.records, s.lost = nil, nil
	return out
}

func (n *Node) attr() slog.Attr { return slog.String("node", string(n.ID)) }

func (r record) log(l *slog.Logger) { l.LogAttrs(context.Background(), r.level, r.text, r.attrs...) }
