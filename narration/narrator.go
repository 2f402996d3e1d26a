package narration

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
)

// Config of a [Narrator]. The zero value is fine.
type Config struct {
	// Service, Version and Instance stand on every record. "" = main module path
	// and version of the program, and the host name.
	Service, Version, Instance string
	// Level is the threshold. nil = slog.LevelInfo; a *slog.LevelVar changes it
	// for the next record.
	Level slog.Leveler
	// Redact adds to the built-in rules.
	Redact Redaction
	// Limits bound records; zero members have the defaults.
	Limits Limits
	// Multiline lists keys whose values keep LF and TAB. nil = {"stack"}.
	Multiline []string
	// Source adds file:line of the caller.
	Source bool
	// Color colours the level on the console form.
	Color bool
	// Trace returns the ids of a foreign tracer, if the context has some; they
	// stand in trace_id and span_id then. nil = those of [IDs] only.
	Trace func(context.Context) (TraceParent, bool)
	// OnError gets errors of the next handler, beside the caller. nil = counted
	// only, see [Stats].
	OnError func(error)
}

// Limits bound what one record can cost. Lengths are bytes.
type Limits struct {
	Human  int // the message; default 4096
	String int // any other string; default 2048
	Any    int // a value of another type, as JSON; default 4096
	Attrs  int // attributes, those in groups too; default 64
	Record int // all strings together; default 16384
	Depth  int // groups in groups; default 8
}

// Narrator makes records safe and complete. Make one with [New], [NewJSON] or
// [NewConsole].
type Narrator struct {
	cfg        Config
	next       slog.Handler
	rules      *rules
	provenance []slog.Attr // cleaned
	emittedBy  string
	counts     counters

	literals atomic.Pointer[literals]
	mu       sync.Mutex
	added    []*string // guarded by mu; pointers, so that equal literals are told apart
}

// New returns a Narrator that hands clean records to next. All faults of c come
// at once, as [*ConfigError].
func New(next slog.Handler, c Config) (*Narrator, error) {
	var faults []error
	if next == nil {
		faults = append(faults, &ConfigError{"next", "it is nil"})
	}
	for _, l := range []struct {
		field        string
		value        *int
		def, atLeast int
	}{
		{"Human", &c.Limits.Human, 4096, 64},
		{"String", &c.Limits.String, 2048, 64},
		{"Any", &c.Limits.Any, 4096, 64},
		{"Attrs", &c.Limits.Attrs, 64, 1},
		{"Record", &c.Limits.Record, 16384, 1024},
		{"Depth", &c.Limits.Depth, 8, 1},
	} {
		if *l.value == 0 {
			*l.value = l.def
		}
		if *l.value < l.atLeast {
			faults = append(faults, &ConfigError{"Limits." + l.field, "it is too small"})
		}
	}
	rules, err := compile(c.Redact)
	if err := errors.Join(append(faults, err)...); err != nil {
		return nil, err
	}
	if c.Level == nil {
		c.Level = slog.LevelInfo
	}
	if c.Multiline == nil {
		c.Multiline = []string{"stack"}
	}
	c.Multiline = slices.Clone(c.Multiline)
	n := &Narrator{cfg: c, next: next, rules: rules}
	n.setProvenance()
	return n, nil
}

func (n *Narrator) setProvenance() {
	if b, ok := debug.ReadBuildInfo(); ok {
		n.cfg.Service = cmp.Or(n.cfg.Service, b.Main.Path)
		n.cfg.Version = cmp.Or(n.cfg.Version, b.Main.Version)
	}
	if n.cfg.Instance == "" {
		n.cfg.Instance, _ = os.Hostname()
	}
	clean := func(s string) string { return cut(escape(n.rules.redact(cmp.Or(s, "unknown"), nil), false), 256) }
	service, version := clean(n.cfg.Service), clean(n.cfg.Version)
	n.provenance = []slog.Attr{slog.String(keyService, service), slog.String(keyVersion, version), slog.String(keyInstance, clean(n.cfg.Instance))}
	n.emittedBy = service + "@" + version
}

// NewJSON writes one JSON object per record to w: time (UTC), level, human,
// provenance, ids, then the attributes. Each record is one Write.
func NewJSON(w io.Writer, c Config) (*Narrator, error) {
	if w == nil {
		return nil, &ConfigError{"w", "it is nil"}
	}
	return New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: slog.Level(math.MinInt32), ReplaceAttr: ReplaceAttr}), c)
}

// Handler returns the handler, for slog.New or a handler around it.
func (n *Narrator) Handler() slog.Handler { return &handler{n: n} }

// Logger returns a logger over Handler.
func (n *Narrator) Logger() *slog.Logger { return slog.New(n.Handler()) }

// enabled reports whether a record of level l would be handed on.
func (n *Narrator) enabled(ctx context.Context, l slog.Level) bool {
	return l < LevelMute && l >= n.cfg.Level.Level() && n.next.Enabled(ctx, l)
}

// Into returns a context that carries n for [From].
func Into(ctx context.Context, n *Narrator) context.Context {
	return context.WithValue(ctx, narratorKey{}, n)
}

// From returns the Narrator of ctx, or one that is mute; never nil.
func From(ctx context.Context) *Narrator {
	if n, ok := ctx.Value(narratorKey{}).(*Narrator); ok && n != nil {
		return n
	}
	return mute()
}

// mute is made once; it holds nothing that changes.
var mute = sync.OnceValue(func() *Narrator {
	n, err := New(slog.DiscardHandler, Config{Service: "mute", Version: "none", Instance: "none", Level: LevelMute})
	if err != nil {
		panic("narration: internal error: " + err.Error())
	}
	return n
})
