package narration_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"regexp"
	"strings"
	"testing"

	"github.com/llorch/llorch/narration"
)

// NAR-38: who, what, on what, which request, the sentence, the data; NAR-27: no
// value can pass for a line of its own.
func TestConsole(t *testing.T) {
	var w bytes.Buffer
	n, err := narration.NewConsole(&w, narration.Config{})
	if err != nil {
		t.Fatal(err)
	}
	n.Logger().InfoContext(narration.WithIDs(t.Context(), ids), "task dispatched", slog.Any("actor", narration.Actor("orchestratord")), slog.Any("action", narration.Action("dispatch")), "target", "task-1",
		"n", 3, "text", "two words", "empty", "", "quote", `a"b`, slog.Group("g", "x", 1), "any", map[string]int{"a": 1}, "token", "abc")
	n.Logger().Error("x\x1b[31m\nforged", "stack", "a\nb", "line", "a\nb")
	lines := strings.Split(strings.TrimSuffix(w.String(), "\n"), "\n")
	want := []string{
		`^\d\d:\d\d:\d\d\.\d{3} INFO  orchestratord dispatch task-1 \[corr-1\] task dispatched  n=3 text="two words" empty="" quote="a\\"b" g.x=1 any="{\\"a\\":1}" token=\[REDACTED\]$`,
		`ERROR x\\x1b\[31m\\nforged  stack="a$`, `^    b" line=a\\nb$`,
	}
	if len(lines) != len(want) {
		t.Fatalf("%d lines: %q", len(lines), lines)
	}
	for i, re := range want {
		if !regexp.MustCompile(re).MatchString(lines[i]) {
			t.Errorf("line %d: %q", i, lines[i])
		}
	}
	w.Reset()
	color, err := narration.NewConsole(&w, narration.Config{Color: true})
	if err != nil {
		t.Fatal(err)
	}
	color.Logger().Warn("careful")
	if !strings.Contains(w.String(), "\x1b[33mWARN \x1b[0m careful") {
		t.Errorf("%q", w.String())
	}
}

// The leak matrix: dangerous runes and secrets in every place, through every form.
// The same input through bare slog leaks, so the matrix is able to notice.
func TestLeakMatrix(t *testing.T) {
	runes := []string{"\x1b[2J", "\r", "\n", "\u009b", "\u202e", "\u200b", "\u2028", "\U000e0041", "\x7f", "\xff", "\u3164", "\ufe0f"}
	const secret = "Zq3vT8xLk2Wm9RbY5cHs7dNf"
	forms := map[string]func(w *bytes.Buffer) slog.Handler{
		"JSON": func(w *bytes.Buffer) slog.Handler { return quiet(t, w, narration.Config{}).Handler() },
		"text": func(w *bytes.Buffer) slog.Handler {
			n, err := narration.New(slog.NewTextHandler(w, nil), narration.Config{})
			if err != nil {
				t.Fatal(err)
			}
			return n.Handler()
		},
		"console": func(w *bytes.Buffer) slog.Handler {
			n, err := narration.NewConsole(w, narration.Config{})
			if err != nil {
				t.Fatal(err)
			}
			return n.Handler()
		},
		"bare slog": func(w *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(w, nil) },
	}
	for form, make := range forms {
		leaked := 0
		for _, bad := range append(runes, "password="+secret, "Bearer "+secret) {
			var w bytes.Buffer
			everywhere(slog.New(make(&w)), "a "+bad+" b")
			allowed := 11 // one line feed per record
			if bad == "\n" && form == "console" {
				allowed = 12 // the multi-line key keeps it
			}
			out := w.String()
			if strings.Contains(out, secret) || strings.Count(out, "\n") > allowed || bad != "\n" && strings.Contains(strings.ReplaceAll(out, "\n", ""), bad) && !strings.Contains(bad, secret) {
				leaked++
				if form != "bare slog" {
					t.Errorf("%s: %q in %q", form, bad, out)
				}
			}
			if form == "JSON" {
				for line := range strings.Lines(out) { // TestSlogJSONLeakIsClosed: also not behind a JSON escape
					var rec map[string]any
					if err := json.Unmarshal([]byte(line), &rec); err != nil {
						t.Fatal(err)
					}
					if human, _ := rec["human"].(string); strings.Contains(human, bad) {
						t.Errorf("decoded %q", human)
					}
				}
			}
		}
		if form == "bare slog" && leaked == 0 {
			t.Error("the matrix notices nothing")
		}
	}
}

// everywhere logs bad in every place of a record, 11 records in all.
func everywhere(log *slog.Logger, bad string) {
	log.Info(bad)
	log.Info("x", bad, 1)
	log.WithGroup(bad).Info("x", "a", 1)
	log.With("v", bad).Info("x")
	log.Info("x", "v", stringer(bad))
	log.Info("x", "v", &typedNil{bad})
	log.Info("x", "v", valuer{slog.StringValue(bad)})
	log.Info("x", "v", map[string]any{bad: []string{bad}})
	log.Info("x", "v", struct{ A string }{bad})
	log.Info("x", "stack", bad)
	log.Info("x", slog.Any("actor", narration.Actor(bad)), slog.Any("action", narration.Action(bad)), "target", bad, "correlation_id", bad)
}
