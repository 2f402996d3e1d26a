package narration

import (
	"context"
	"encoding/hex"
	"log/slog"
	"slices"
)

// IDs of the work that a context belongs to.
type IDs struct {
	Correlation Correlation
	Trace       TraceParent // the current span
	Parent      [8]byte     // span id of the caller, zero if none
	State       string      // tracestate, as it came in
}

type (
	idsKey      struct{}
	attrsKey    struct{}
	narratorKey struct{}
)

// WithIDs returns a context whose records carry ids. Zero members are inherited
// from ctx.
func WithIDs(ctx context.Context, ids IDs) context.Context {
	old := IDsFrom(ctx)
	if ids.Correlation == "" {
		ids.Correlation = old.Correlation
	}
	if ids.Trace.IsZero() {
		ids.Trace = old.Trace
	}
	if ids.Parent == ([8]byte{}) {
		ids.Parent = old.Parent
	}
	if ids.State == "" {
		ids.State = old.State
	}
	return context.WithValue(ctx, idsKey{}, &ids)
}

// IDsFrom returns the ids of ctx; the zero IDs if it has none.
func IDsFrom(ctx context.Context) IDs {
	if p, ok := ctx.Value(idsKey{}).(*IDs); ok {
		return *p
	}
	return IDs{}
}

// WithAttrs returns a context whose records carry attrs at their root, also under
// WithGroup: task_id, node_id and the like.
func WithAttrs(ctx context.Context, attrs ...slog.Attr) context.Context {
	return context.WithValue(ctx, attrsKey{}, append(slices.Clip(attrsFrom(ctx)), attrs...))
}

func attrsFrom(ctx context.Context) []slog.Attr {
	attrs, _ := ctx.Value(attrsKey{}).([]slog.Attr)
	return attrs
}

// appendIDs adds the ids that are there.
func appendIDs(dst []slog.Attr, ids IDs) []slog.Attr {
	if ids.Correlation != "" {
		dst = append(dst, slog.String(keyCorrelate, string(ids.Correlation)))
	}
	if !ids.Trace.IsZero() {
		dst = append(dst, slog.String(keyTrace, hex.EncodeToString(ids.Trace.TraceID[:])), slog.String(keySpan, hex.EncodeToString(ids.Trace.SpanID[:])))
	}
	if ids.Parent != ([8]byte{}) {
		dst = append(dst, slog.String(keyParent, hex.EncodeToString(ids.Parent[:])))
	}
	return dst
}
