package poolregistry

import (
	"context"
	"log/slog"
	"time"
)

type recordKind int

const (
	recordTransition recordKind = iota
	recordGuard
	recordConflict
	recordStall
	recordSkew
)

// record is something to be logged once the lock is released.
type record struct {
	kind     recordKind
	node     NodeID
	from, to Liveness
	reason   string
	epoch    uint64
	silence  time.Duration
}

func (s *state) note(r record) { s.records = append(s.records, r) }

func (r record) log(l *slog.Logger) {
	ctx := context.Background()
	node, epoch := slog.String("node", string(r.node)), slog.Uint64("epoch", r.epoch)
	switch r.kind {
	case recordTransition:
		level := slog.LevelInfo
		if r.to == Offline {
			level = slog.LevelWarn
		}
		l.LogAttrs(ctx, level, "node "+string(r.to), node, epoch, slog.String("from", string(r.from)),
			slog.String("to", string(r.to)), slog.String("reason", r.reason), slog.Int64("silence_ms", r.silence.Milliseconds()))
	case recordGuard:
		level := slog.LevelWarn
		if r.reason == "tripped" {
			level = slog.LevelError
		}
		l.LogAttrs(ctx, level, "mass-failure guard "+r.reason)
	case recordConflict:
		l.LogAttrs(ctx, slog.LevelError, "two live copies of one node id", node, epoch)
	case recordStall:
		l.LogAttrs(ctx, slog.LevelWarn, "this process was paused", slog.Int64("stall_ms", r.silence.Milliseconds()))
	case recordSkew:
		l.LogAttrs(ctx, slog.LevelWarn, "clock of node is off by more than 30 s", node)
	}
}
