package narration_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/slogtest"
	"time"

	"github.com/llorch/llorch/narration"
	"github.com/llorch/llorch/narration/narrationtest"
)

// NAR-1: what every slog handler owes, for all forms and for two in a row.
func TestSlogtest(t *testing.T) {
	parse := func(t *testing.T, w *bytes.Buffer) (out map[string]any) {
		if err := json.Unmarshal(w.Bytes(), &out); err != nil {
			t.Fatal(err)
		}
		if human, ok := out["human"]; ok {
			out["msg"] = human
		}
		return out
	}
	for name, wrap := range map[string]func(w *bytes.Buffer) slog.Handler{
		"NewJSON": func(w *bytes.Buffer) slog.Handler { return quiet(t, w, narration.Config{}).Handler() },
		"New": func(w *bytes.Buffer) slog.Handler {
			n, err := narration.New(slog.NewJSONHandler(w, nil), narration.Config{})
			if err != nil {
				t.Fatal(err)
			}
			return n.Handler()
		},
		"two": func(w *bytes.Buffer) slog.Handler {
			n, err := narration.New(quiet(t, w, narration.Config{}).Handler(), narration.Config{})
			if err != nil {
				t.Fatal(err)
			}
			return n.Handler()
		},
	} {
		var w bytes.Buffer
		slogtest.Run(t, func(*testing.T) slog.Handler { w.Reset(); return wrap(&w) }, func(t *testing.T) map[string]any { return parse(t, &w) })
		if t.Failed() {
			t.Fatal(name)
		}
	}
}

// The ids of W3C and of the caller used in tests.
var ids = narration.IDs{Correlation: "corr-1", Trace: narration.TraceParent{TraceID: [16]byte{15: 1}, SpanID: [8]byte{7: 2}}, Parent: [8]byte{7: 3}}

// G3, NAR-2: ids and context attributes stand at the root under any group.
func TestIDsAtRootUnderGroup(t *testing.T) {
	n, rec := narrationtest.Capture(t)
	ctx := narration.WithAttrs(narration.WithIDs(t.Context(), ids), slog.String("task_id", "t1"))
	ctx = narration.WithAttrs(ctx, slog.Int("attempt", 2))
	n.Logger().With("a", 1).WithGroup("g").With("b", 2).WithGroup("h").InfoContext(ctx, "hello", "c", 3)
	got := rec.All()[0]
	for key, want := range map[string]any{
		"correlation_id": "corr-1", "trace_id": strings.Repeat("0", 31) + "1", "span_id": strings.Repeat("0", 15) + "2", "parent_span_id": strings.Repeat("0", 15) + "3",
		"task_id": "t1", "attempt": 2.0, "a": 1.0, "g.b": 2.0, "g.h.c": 3.0, "service": "test",
	} {
		if v, _ := got.Field(key); v != want {
			t.Errorf("%s = %v, want %v in %s", key, v, want, got.Raw)
		}
	}
}

// Wrapping survives With and WithGroup.
func TestWithAttrsKeepsWrapper(t *testing.T) {
	n, rec := narrationtest.Capture(t)
	n.Logger().With("token", "abc").WithGroup("g").With("password", "abc").Info("x")
	if raw := rec.All()[0].Raw; strings.Count(raw, "[REDACTED]") != 2 {
		t.Error(raw)
	}
}

// NAR-4: no attribute takes the place of ours; words and ids of the program may
// stand where the context has none.
func TestReservedKeyCannotBeForged(t *testing.T) {
	n, rec := narrationtest.Capture(t)
	log := n.Logger()
	log.InfoContext(narration.WithIDs(t.Context(), ids), "x", "service", "evil", "level", "FATAL", "time", "never", "human", "lie", "correlation_id", "other", "actor", "root", "outcome", "ok", "msg", 1)
	log.Info("y", slog.Any("actor", narration.Actor("scheduler")), slog.Any("action", narration.Action("tick")), slog.String("correlation_id", "loop-1"), slog.Group("source", "a", 1), slog.String("trace_id", "not hex"))
	log.WithGroup("g").Info("z", "service", "fine here")
	all := rec.All()
	for i, want := range []map[string]any{
		{"service": "test", "attr_service": "evil", "human": "x", "attr_human": "lie", "correlation_id": "corr-1", "attr_correlation_id": "other", "attr_actor": "root", "attr_outcome": "ok", "attr_level": "FATAL", "level": "INFO", "attr_msg": 1.0},
		{"actor": "scheduler", "action": "tick", "correlation_id": "loop-1", "attr_source.a": 1.0, "attr_trace_id": "not hex"},
		{"service": "test", "g.service": "fine here"},
	} {
		for key, v := range want {
			if got, _ := all[i].Field(key); got != v {
				t.Errorf("record %d: %s = %v, want %v", i, key, got, v)
			}
		}
	}
	if strings.Count(all[0].Raw, `"correlation_id"`) != 1 {
		t.Error(all[0].Raw)
	}
}

type stringer string

func (s stringer) String() string { return string(s) }

type valuer struct{ v slog.Value }

func (v valuer) LogValue() slog.Value { return v.v }

type endless struct{}

func (endless) LogValue() slog.Value { return slog.AnyValue(endless{}) }

type bomb struct{}

func (bomb) LogValue() slog.Value { panic("boom") }

type typedNil struct{ text string }

func (e *typedNil) Error() string { return e.text }

type cyclic struct{ Next *cyclic }

type secretValue struct{ plain string }

func (secretValue) MarshalJSON() ([]byte, error) { return []byte(`"[hidden]"`), nil }

// NAR-5, NAR-7, NAR-44: every kind of value.
func TestValueKinds(t *testing.T) {
	n, rec := narrationtest.Capture(t)
	link, err := url.Parse("https://user:hunter2@host/p")
	if err != nil {
		t.Fatal(err)
	}
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://host/path?token=abcdef", nil)
	loop := &cyclic{}
	loop.Next = loop
	for _, c := range []struct {
		value any
		want  any
	}{
		{"a\x1b", `a\x1b`},
		{errors.New("token=abc"), "token=[REDACTED]"},
		{fmt.Errorf("wrap: %w", errors.New("a\nb")), `wrap: a\nb`},
		{(*typedNil)(nil), "!ERROR(*narration_test.typedNil)"}, // TestTypedNilError
		{stringer("password=abc"), "password=[REDACTED]"},
		{valuer{slog.StringValue("token=abc")}, "token=[REDACTED]"},
		{valuer{slog.AnyValue(valuer{slog.IntValue(7)})}, 7.0},
		{endless{}, "!ERROR(narration_test.endless)"},
		{bomb{}, "!ERROR(narration_test.bomb)"},
		{[]byte("secret bytes of any length"), "len=26 hex=736563726574206279746573206f6620"},
		{http.Header{"X-A": {"1"}, "Authorization": {"Bearer abc"}}, "Authorization: [REDACTED], X-A: 1"},
		{link, "https://user:[REDACTED]@host/p"},
		{r, "GET host/path"},
		{true, true},
		{1.5, 1.5},
		{int8(3), 3.0},
		{time.Second, 1e9},
		{map[string]string{"a": "b"}, nil},
		{map[string]string{"password": "b c"}, `{"password":"[REDACTED]"}`},
		{map[string]string{"a": "\u202e"}, "{\"a\":\"\\u202e\"}"},
		{struct{ A, b string }{"x", "unseen"}, nil},
		{secretValue{"plain"}, "[hidden]"},
		{loop, "!ERROR(*narration_test.cyclic)"},
		{func() {}, "!ERROR(func())"},
		{math.Inf(1), "!ERROR:json: unsupported value: +Inf"},
		{nil, nil},
	} {
		n.Logger().Info("x", "v", c.value)
		all := rec.All()
		got := all[len(all)-1]
		if v, _ := got.Field("v"); v != c.want {
			t.Errorf("%T = %v, want %v", c.value, v, c.want)
		}
		if strings.Contains(got.Raw, "unseen") || strings.Contains(got.Raw, "hunter2") || strings.Contains(got.Raw, "abcdef") {
			t.Error(got.Raw)
		}
	}
	if v, _ := rec.All()[17].Field("v.a"); v != "b" {
		t.Errorf("a clean map is not passed on as data: %s", rec.All()[17].Raw)
	}
}

// NAR-6: what is too much is cut or dropped, and said so.
func TestLimits(t *testing.T) {
	cfg := narration.Config{Limits: narration.Limits{Human: 100, String: 64, Any: 64, Attrs: 5, Record: 4096, Depth: 2}}
	n, rec := narrationtest.Capture(t, cfg)
	n.Logger().Info(strings.Repeat("ä", 80), "long", strings.Repeat("ö", 80), "any", strings.Split(strings.Repeat("x", 80), ""),
		"", 1, strings.Repeat("k", 100), 2, "five", 5, "six", 6, "seven", 7)
	n.Logger().WithGroup("a").WithGroup("b").WithGroup("c").Info("deep", "x", 1)
	n.Logger().Info("deep", slog.Group("a", slog.Group("b", slog.Group("c", "x", 1))))
	all := rec.All()
	for key, want := range map[string]any{
		"long": strings.Repeat("ö", 32) + "…(+96)", "!EMPTY": 1.0, strings.Repeat("k", 64) + "…(+36)": 2.0, "five": 5.0, "six": nil, "dropped_attrs": 2.0,
		"human": strings.Repeat("ä", 50) + "…(+60)",
	} {
		if v, _ := all[0].Field(key); v != want {
			t.Errorf("%s = %v, want %v", key, v, want)
		}
	}
	if v, _ := all[0].Field("any"); !strings.HasSuffix(fmt.Sprint(v), ")") {
		t.Errorf("any = %v", v)
	}
	for _, r := range all[1:] {
		if v, _ := r.Field("dropped_attrs"); v != 1.0 || strings.Contains(r.Raw, `"x"`) {
			t.Error(r.Raw)
		}
	}
	s := n.Stats()
	if s.Info != 3 || s.DroppedAttrs != 4 || s.Truncated != 4 {
		t.Errorf("%+v", s)
	}
	small, rec2 := narrationtest.Capture(t, narration.Config{Limits: narration.Limits{Record: 1024}})
	var args []any
	for i := range 40 {
		args = append(args, "k"+strconv.Itoa(i), strings.Repeat("v", 100))
	}
	small.Logger().Info("x", args...)
	if raw := rec2.All()[0].Raw; len(raw) > 2048 || !strings.Contains(raw, "dropped_attrs") {
		t.Errorf("%d bytes", len(raw))
	}
}

// NAR-8: provenance is the service's, on every level.
func TestProvenanceOnEveryLevel(t *testing.T) {
	n, rec := narrationtest.Capture(t, narration.Config{Service: "svc\x1b", Version: "v1", Instance: "token=abcdefgh", Source: true})
	for _, l := range []slog.Level{narration.LevelTrace, slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError, narration.LevelFatal} {
		n.Logger().Log(t.Context(), l, "x")
	}
	for _, r := range rec.All() {
		if r.Fields["service"] != `svc\x1b` || r.Fields["version"] != "v1" || r.Fields["instance"] != "token=[REDACTED]" {
			t.Error(r.Raw)
		}
		if s, _ := r.Fields["source"].(string); !strings.Contains(s, "handler_test.go:") {
			t.Errorf("source %v", r.Fields["source"])
		}
	}
	var w bytes.Buffer
	quiet(t, &w, narration.Config{}).Logger().Info("x")
	if strings.Contains(w.String(), `"service":""`) || strings.Contains(w.String(), `"source"`) {
		t.Error(w.String())
	}
}

// NAR-16, NAR-17: names, thresholds, changes at run time.
func TestLevels(t *testing.T) {
	var level slog.LevelVar
	n, rec := narrationtest.Capture(t, narration.Config{Level: &level})
	log := n.Logger()
	say := func(l slog.Level) int { log.Log(t.Context(), l, "x"); return len(rec.All()) }
	if got := []int{say(slog.LevelDebug), say(slog.LevelInfo), say(narration.LevelMute)}; fmt.Sprint(got) != "[0 1 1]" {
		t.Error(got)
	}
	level.Set(narration.LevelTrace)
	if say(narration.LevelTrace) != 2 {
		t.Error("a LevelVar changes nothing")
	}
	level.Set(narration.LevelMute)
	if say(narration.LevelFatal) != 2 {
		t.Error("mute speaks")
	}
	level.Set(narration.LevelTrace)
	for l, want := range map[slog.Level]string{-9: "TRACE-1", -8: "TRACE", -5: "TRACE+3", -4: "DEBUG", 0: "INFO", 2: "INFO+2", 4: "WARN", 8: "ERROR", 11: "ERROR+3", 12: "FATAL", 13: "FATAL+1"} {
		level.Set(-100)
		say(l)
		all := rec.All()
		if got := all[len(all)-1].Fields["level"]; got != want { // TestFatalStaysFatal
			t.Errorf("%d is called %v, want %s", l, got, want)
		}
		if back, err := narration.ParseLevel(strings.ToLower(want)); err != nil || back != l {
			t.Errorf("ParseLevel(%s) = %v, %v", want, back, err)
		}
	}
	for _, bad := range []string{"", "LOUD", "INFO+", "INFO+x", "MUTE+1", "+1", "INFO+99999", "INFO +1"} {
		if _, err := narration.ParseLevel(bad); err == nil {
			t.Errorf("ParseLevel(%q) succeeded", bad)
		}
	}
	if l, err := narration.ParseLevel("mute"); err != nil || l != narration.LevelMute {
		t.Error(l, err)
	}
}

// NAR-26: the shared vectors, through the handler; NAR-27: keys that keep lines.
func TestEscape(t *testing.T) {
	n, rec := narrationtest.Capture(t)
	for i, line := range lines(t, "escape.tsv") {
		literal, escaped, _ := strings.Cut(line, "\t")
		in, inErr := strconv.Unquote(literal)
		want, wantErr := strconv.Unquote(escaped)
		if err := errors.Join(inErr, wantErr); err != nil {
			t.Fatalf("line %d: %v", i, err)
		}
		if in == "" { // an attribute without a name is no attribute
			continue
		}
		n.Logger().Info(in, "v", in, in, 1)
		all := rec.All()
		got := all[len(all)-1]
		if _, ok := got.Field(want); got.Human != want || got.Fields["v"] != want || !ok {
			t.Errorf("%s became %q, want %q", literal, got.Human, want)
		}
	}
	n.Logger().Info("x", "stack", "a\n\tb\x1b\r", "other", "a\nb")
	all := rec.All()
	if got := all[len(all)-1]; got.Fields["stack"] != "a\n\tb\\x1b\\r" || got.Fields["other"] != `a\nb` {
		t.Error(got.Raw)
	}
}

// NAR-9: an error of the next handler is counted, told and returned.
func TestNextFails(t *testing.T) {
	broken := errors.New("disk full")
	var told error
	n, err := narration.NewJSON(failing{broken}, narration.Config{OnError: func(err error) { told = err }})
	if err != nil {
		t.Fatal(err)
	}
	rec := slog.NewRecord(time.Time{}, slog.LevelInfo, "x", 0)
	if err := n.Handler().Handle(t.Context(), rec); !errors.Is(err, broken) || !errors.Is(told, broken) || n.Stats().Failed != 1 {
		t.Errorf("%v, told %v, %+v", err, told, n.Stats())
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// NAR-44: faults come all at once.
func TestConfigFaults(t *testing.T) {
	_, err := narration.New(nil, narration.Config{Limits: narration.Limits{String: 63, Attrs: -1}, Redact: narration.Redaction{Off: []string{"x"}}})
	if err == nil || strings.Count(err.Error(), "\n") != 3 {
		t.Errorf("New = %v, want four faults", err)
	}
	if _, err := narration.NewJSON(nil, narration.Config{}); err == nil {
		t.Error("NewJSON(nil)")
	}
	if _, err := narration.NewConsole(nil, narration.Config{}); err == nil {
		t.Error("NewConsole(nil)")
	}
}

// NAR-22: a foreign tracer's ids stand in for ours.
func TestForeignTrace(t *testing.T) {
	foreign := narration.NewTraceParent(true)
	n, rec := narrationtest.Capture(t, narration.Config{Trace: func(context.Context) (narration.TraceParent, bool) { return foreign, true }})
	n.Logger().InfoContext(narration.WithIDs(t.Context(), ids), "x")
	if got := rec.All()[0]; got.Fields["trace_id"] != foreign.String()[3:35] || got.Fields["span_id"] != foreign.String()[36:52] || got.Fields["correlation_id"] != "corr-1" {
		t.Error(got.Raw)
	}
}

func TestHandlerConcurrentSafe(t *testing.T) {
	var level slog.LevelVar
	n, rec := narrationtest.Capture(t, narration.Config{Level: &level})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 50 {
				n.Logger().With("i", i).WithGroup("g").Info("hello", "secret value", "abcdefgh"+strconv.Itoa(j))
				remove, err := n.AddLiteral("abcdefgh" + strconv.Itoa(j))
				if err != nil {
					t.Error(err)
					return
				}
				level.Set(slog.Level(j % 4 * -1))
				remove()
			}
		})
	}
	wg.Wait()
	if got := n.Stats().Info; got != 400 || len(rec.All()) != 400 {
		t.Errorf("%d records", got)
	}
}
