package narration_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/llorch/llorch/narration"
)

func discard(b *testing.B) *narration.Narrator {
	b.Helper()
	n, err := narration.NewJSON(io.Discard, narration.Config{Service: "demo", Version: "v1", Instance: "host"})
	if err != nil {
		b.Fatal(err)
	}
	return n
}

func BenchmarkHandle(b *testing.B) {
	attrs := []slog.Attr{slog.String("model", "qwen2.5:0.5b"), slog.Int("tokens_in", 512), slog.Bool("stream", true), slog.String("pool", "pool-a"), slog.Int("attempt", 1)}
	dirty := append([]slog.Attr{slog.String("url", "postgres://u:secret@h/d")}, attrs[1:]...)
	ctx := narration.WithIDs(context.Background(), ids)
	preset := []any{"service", "demo", "version", "v1", "instance", "host", "correlation_id", "corr-1", "trace_id", ids.Trace.String()[3:35], "span_id", ids.Trace.String()[36:52], "parent_span_id", ids.Trace.String()[36:52]}
	for name, log := range map[string]*slog.Logger{"clean5": discard(b).Logger(), "slogJSON": slog.New(slog.NewJSONHandler(io.Discard, nil)).With(preset...)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				log.LogAttrs(ctx, slog.LevelInfo, "task was dispatched to a worker", attrs...)
			}
		})
	}
	log := discard(b).Logger()
	b.Run("oneSecret", func(b *testing.B) {
		for b.Loop() {
			log.LogAttrs(ctx, slog.LevelInfo, "task was dispatched to a worker", dirty...)
		}
	})
	b.Run("disabled", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			log.LogAttrs(ctx, slog.LevelDebug, "task was dispatched to a worker", attrs...)
		}
	})
}

func BenchmarkRedact(b *testing.B) {
	log := discard(b).Logger()
	clean := strings.Repeat("the quick brown fox jumps over the lazy dog; n=12, at 10:30. ", 17)[:1024]
	for name, s := range map[string]string{"clean1KB": clean, "hostile100KB": strings.Repeat("bearer eyJa.-", 8000)} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(s)))
			for b.Loop() {
				log.Info(s)
			}
		})
	}
}

type nowhere struct{ h http.Header }

func (w nowhere) Header() http.Header         { return w.h }
func (w nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (w nowhere) WriteHeader(int)             {}

func BenchmarkMiddleware(b *testing.B) {
	hello := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) })
	for name, h := range map[string]http.Handler{"event": narration.Middleware(discard(b), narration.HTTPConfig{})(hello), "bare": hello} {
		b.Run(name, func(b *testing.B) {
			r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/", nil)
			for b.Loop() {
				h.ServeHTTP(nowhere{http.Header{}}, r)
			}
		})
	}
}
