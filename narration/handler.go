package narration

import (
	"context"
	"log/slog"
	"runtime"
	"slices"
	"strconv"
)

// handler keeps groups and attributes itself, so that ids stand at the root
// whatever group is open. It never changes after it was made.
type handler struct {
	n     *Narrator
	opens []open
}

// open is what WithGroup or WithAttrs added: a group if it has a name.
type open struct {
	group string
	attrs []slog.Attr
}

// Enabled implements slog.Handler; nothing before it touches a string.
func (h *handler) Enabled(ctx context.Context, l slog.Level) bool { return h.n.enabled(ctx, l) }

// WithAttrs implements slog.Handler. Attributes are cleaned with each record, so
// that a literal that is registered later is hidden in them too.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	if len(attrs) == 0 {
		return h
	}
	return h.with(open{attrs: slices.Clone(attrs)})
}

// WithGroup implements slog.Handler.
func (h *handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	return h.with(open{group: name})
}

func (h *handler) with(o open) *handler {
	return &handler{h.n, append(slices.Clip(h.opens), o)}
}

// Handle implements slog.Handler.
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= LevelMute {
		return nil
	}
	n := h.n
	ids := n.ids(ctx)
	c := cleaner{n: n, lits: n.literals.Load(), ids: ids, attrsLeft: n.cfg.Limits.Attrs, bytesLeft: n.cfg.Limits.Record}
	out := slog.NewRecord(r.Time.UTC(), r.Level, c.message(r.Message), r.PC)
	var buf [24]slog.Attr
	attrs := append(buf[:0], n.provenance...)
	attrs = appendIDs(attrs, ids)
	if n.cfg.Source && r.PC != 0 {
		attrs = append(attrs, slog.String(slog.SourceKey, caller(r.PC)))
	}
	for _, a := range attrsFrom(ctx) {
		attrs = c.attr(attrs, a, 0, true)
	}
	attrs = c.level(attrs, h.opens, r, 0)
	if c.dropped > 0 {
		n.counts.droppedAttrs.Add(uint64(c.dropped))
		attrs = append(attrs, slog.Int(keyDropped, c.dropped))
	}
	out.AddAttrs(attrs...)
	n.counts.record(r.Level)
	if err := n.next.Handle(ctx, out); err != nil {
		n.counts.failed.Add(1)
		if n.cfg.OnError != nil {
			n.cfg.OnError(err)
		}
		return err
	}
	return nil
}

// ids returns the ids of ctx; a foreign trace replaces ours.
func (n *Narrator) ids(ctx context.Context) IDs {
	ids := IDsFrom(ctx)
	if n.cfg.Trace != nil {
		if t, ok := n.cfg.Trace(ctx); ok && t.TraceID != ([16]byte{}) && t.SpanID != ([8]byte{}) {
			ids.Trace = t
		}
	}
	return ids
}

// level adds the attributes of one group and, last, the group inside it.
func (c *cleaner) level(dst []slog.Attr, opens []open, r slog.Record, depth int) []slog.Attr {
	for i, o := range opens {
		if o.group == "" {
			for _, a := range o.attrs {
				dst = c.attr(dst, a, depth, depth == 0)
			}
			continue
		}
		if depth >= c.n.cfg.Limits.Depth {
			c.dropped++
			return dst
		}
		if inner := c.level(nil, opens[i+1:], r, depth+1); len(inner) > 0 {
			dst = append(dst, slog.Attr{Key: c.key(o.group), Value: slog.GroupValue(inner...)})
		}
		return dst
	}
	r.Attrs(func(a slog.Attr) bool {
		dst = c.attr(dst, a, depth, depth == 0)
		return true
	})
	return dst
}

func caller(pc uintptr) string {
	f, _ := runtime.CallersFrames([]uintptr{pc}).Next()
	return escape(f.File, false) + ":" + strconv.Itoa(f.Line)
}
