package narration

import (
	"context"
	"io"
	"log/slog"
	"math"
	"strings"
	"sync"
)

// NewConsole writes one line per record for people to w:
//
//	15:04:05.000 LEVEL actor action target [correlation] human  key=value …
//
// Provenance and trace ids are left out. Each record is one Write.
func NewConsole(w io.Writer, c Config) (*Narrator, error) {
	if w == nil {
		return nil, &ConfigError{"w", "it is nil"}
	}
	return New(&console{w: w, mu: new(sync.Mutex), color: c.Color}, c)
}

// console is the last handler; it gets clean records from a handler that keeps
// groups itself.
type console struct {
	mu    *sync.Mutex // one Write at a time
	w     io.Writer
	color bool
}

func (c *console) Enabled(_ context.Context, l slog.Level) bool { return l > math.MinInt32 }

// WithAttrs and WithGroup are never called: the narration handler keeps both.
func (c *console) WithAttrs([]slog.Attr) slog.Handler { return c }
func (c *console) WithGroup(string) slog.Handler      { return c }

func (c *console) Handle(_ context.Context, r slog.Record) error {
	var b, rest strings.Builder
	if !r.Time.IsZero() {
		b.WriteString(r.Time.Local().Format("15:04:05.000 "))
	}
	b.WriteString(c.paint(r.Level))
	var who [4]string
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case keyActor:
			who[0] = a.Value.String()
		case keyAction:
			who[1] = a.Value.String()
		case keyTarget:
			who[2] = a.Value.String()
		case keyCorrelate:
			who[3] = "[" + a.Value.String() + "]"
		case keyService, keyVersion, keyInstance, keyEmittedBy, keyTrace, keySpan, keyParent:
		default:
			writeAttr(&rest, a.Key, a.Value)
		}
		return true
	})
	for _, s := range who {
		if s != "" {
			b.WriteString(" " + s)
		}
	}
	b.WriteString(" " + r.Message)
	if rest.Len() > 0 {
		b.WriteString(" " + rest.String())
	}
	b.WriteByte('\n')
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := io.WriteString(c.w, b.String())
	return err
}

func (c *console) paint(l slog.Level) string {
	name := levelName(l)
	if len(name) < 5 {
		name += " "
	}
	if !c.color {
		return name
	}
	code := "36" // cyan
	switch {
	case l >= slog.LevelError:
		code = "31" // red
	case l >= slog.LevelWarn:
		code = "33" // yellow
	case l < slog.LevelInfo:
		code = "90" // grey
	}
	return "\x1b[" + code + "m" + name + "\x1b[0m"
}

// writeAttr writes " key=value", groups as dotted keys. Further lines of a value
// are indented, so that none can pass for a record.
func writeAttr(b *strings.Builder, key string, v slog.Value) {
	if v.Kind() == slog.KindGroup {
		for _, a := range v.Group() {
			writeAttr(b, key+"."+a.Key, a.Value)
		}
		return
	}
	text := v.String()
	if raw, ok := v.Any().(interface{ MarshalJSON() ([]byte, error) }); ok && v.Kind() == slog.KindAny {
		if j, err := raw.MarshalJSON(); err == nil {
			text = string(j)
		}
	}
	if text == "" || strings.ContainsAny(text, " \t\n\"=") {
		text = `"` + strings.ReplaceAll(text, `"`, `\"`) + `"`
	}
	b.WriteString(" " + key + "=" + strings.ReplaceAll(text, "\n", "\n    "))
}
