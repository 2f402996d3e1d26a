package narrationtest_test

import (
	"fmt"
	"log/slog"
	"runtime"
	"testing"

	"github.com/llorch/llorch/narration"
	"github.com/llorch/llorch/narration/narrationtest"
)

// spy stands for a test that may fail.
type spy struct {
	testing.TB
	failed bool
}

func (s *spy) Helper()               {}
func (s *spy) Errorf(string, ...any) { s.failed = true }
func (s *spy) Fatalf(string, ...any) { s.failed = true; runtime.Goexit() }

func fails(t *testing.T, f func(testing.TB)) bool {
	t.Helper()
	s, done := &spy{TB: t}, make(chan struct{})
	go func() { defer close(done); f(s) }()
	<-done
	return s.failed
}

// NAR-40, NAR-41: the recorder tells what was said, and notices what is wrong.
func TestCapture(t *testing.T) {
	n, rec := narrationtest.Capture(t)
	log := n.Logger()
	log.Debug("thinking", slog.Any("action", narration.Action("think")), slog.Group("g", "n", 1), "plain", "a canary sings")
	log.Info("again", slog.Any("action", narration.Action("twice")))
	log.Info("again", slog.Any("action", narration.Action("twice")))
	got := rec.One(t, "think")
	if v, ok := got.Field("g.n"); !ok || v != 1.0 || got.Level != slog.LevelDebug || got.Human != "thinking" || got.Time.IsZero() || got.Outcome() != "" {
		t.Errorf("%+v", got)
	}
	for _, a := range []narration.Action{"never", "twice"} {
		if !fails(t, func(tb testing.TB) { rec.One(tb, a) }) {
			t.Errorf("One(%s) did not fail", a)
		}
	}
	if !fails(t, func(tb testing.TB) { rec.NoSecrets(tb, "canary") }) || fails(t, func(tb testing.TB) { rec.NoSecrets(tb, "sparrow") }) {
		t.Error("NoSecrets is wrong")
	}
}

// Captures do not mix.
func TestParallelCapture(t *testing.T) {
	for _, name := range []string{"a", "b", "c"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n, rec := narrationtest.Capture(t)
			for range 50 {
				n.Logger().Info(name)
			}
			for _, r := range rec.All() {
				if r.Human != name {
					t.Fatalf("%q", r.Human)
				}
			}
		})
	}
}

func ExampleCapture() {
	// In a test: n, rec := narrationtest.Capture(t); give n.Logger() to the code
	// under test; then look at rec.
	var rec narrationtest.Recorder
	n, err := narration.NewJSON(&rec, narration.Config{})
	if err != nil {
		panic(err)
	}
	n.Logger().Info("task done", "task_id", "t1")
	fmt.Println(len(rec.All()), rec.All()[0].Human)
	// Output: 1 task done
}
