package narration

import (
	"log/slog"
	"sync/atomic"
)

// Stats counts since the Narrator was made. All numbers only grow.
type Stats struct {
	Trace, Debug, Info, Warn, Error, Fatal uint64 // records handed to the next handler, by level
	Redacted                               uint64 // strings in which something was hidden
	Escaped                                uint64 // strings in which something was escaped
	Truncated                              uint64 // strings that were cut
	DroppedAttrs                           uint64 // attributes beyond a limit
	Failed                                 uint64 // records that the next handler refused
}

// counters is Stats in the making; read without locks.
type counters struct {
	records                                            [6]atomic.Uint64
	redacted, escaped, truncated, droppedAttrs, failed atomic.Uint64
}

func (c *counters) record(l slog.Level) {
	i := 5
	switch {
	case l < slog.LevelDebug:
		i = 0
	case l < slog.LevelInfo:
		i = 1
	case l < slog.LevelWarn:
		i = 2
	case l < slog.LevelError:
		i = 3
	case l < LevelFatal:
		i = 4
	}
	c.records[i].Add(1)
}

// Stats returns the counts so far.
func (n *Narrator) Stats() Stats {
	c := &n.counts
	return Stats{
		Trace: c.records[0].Load(), Debug: c.records[1].Load(), Info: c.records[2].Load(),
		Warn: c.records[3].Load(), Error: c.records[4].Load(), Fatal: c.records[5].Load(),
		Redacted: c.redacted.Load(), Escaped: c.escaped.Load(), Truncated: c.truncated.Load(),
		DroppedAttrs: c.droppedAttrs.Load(), Failed: c.failed.Load(),
	}
}
