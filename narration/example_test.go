package narration_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"

	"github.com/llorch/llorch/narration"
)

// timeless drops what differs from run to run.
func timeless() narration.Config {
	return narration.Config{Service: "demo", Version: "v1", Instance: "host"}
}

func ExampleNew() {
	next := slog.NewJSONHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return narration.ReplaceAttr(groups, a)
	}})
	n, err := narration.New(next, timeless())
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := narration.WithIDs(context.Background(), narration.IDs{Correlation: "req-1"})
	log := n.Logger().WithGroup("db") // a library opens a group; the ids stay at the root
	log.WarnContext(ctx, "connection lost\x1b[31m", "url", "postgres://app:hunter2@db/tasks", "error", errors.New("token=abc"))
	// Output: {"level":"WARN","human":"connection lost\\x1b[31m","service":"demo","version":"v1","instance":"host","correlation_id":"req-1","db":{"url":"postgres://app:[REDACTED]@db/tasks","error":"token=[REDACTED]"}}
}

func ExampleNewJSON() {
	n, err := narration.NewJSON(os.Stderr, timeless())
	if err != nil {
		fmt.Println(err)
		return
	}
	n.Logger().Info("server started", "port", 8080)
	fmt.Println(n.Stats().Info)
	// Output: 1
}

func ExampleNewConsole() {
	n, err := narration.NewConsole(os.Stderr, timeless())
	if err != nil {
		fmt.Println(err)
		return
	}
	n.Logger().Warn("disk is almost full", "free_bytes", 1024)
	fmt.Println(n.Stats().Warn)
	// Output: 1
}

func ExampleMiddleware() {
	n, err := narration.NewJSON(os.Stderr, timeless())
	if err != nil {
		fmt.Println(err)
		return
	}
	h := narration.Middleware(n, narration.HTTPConfig{})(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "who are you?", http.StatusUnauthorized)
	}))
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("X-Correlation-Id", "req-7")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	fmt.Println(w.Code, w.Header().Get("X-Correlation-Id"))
	// Output: 401 req-7
}

func ExampleTransport() {
	next := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Println("the next hop sees", r.Header.Get("X-Correlation-Id"))
	}))
	defer next.Close()
	ctx := narration.WithIDs(context.Background(), narration.IDs{Correlation: "req-1"})
	r, _ := http.NewRequestWithContext(ctx, http.MethodGet, next.URL, nil)
	resp, err := (&http.Client{Transport: narration.Transport(nil)}).Do(r)
	if err != nil {
		fmt.Println(err)
		return
	}
	resp.Body.Close()
	// Output: the next hop sees req-1
}

func ExampleNarrator_AddLiteral() {
	n, err := narration.NewConsole(os.Stdout, timeless())
	if err != nil {
		fmt.Println(err)
		return
	}
	remove, err := n.AddLiteral("short")
	fmt.Println(remove == nil, err)
	// Output: true add literal: fewer than 8 bytes
}

func ExampleParseLevel() {
	l, err := narration.ParseLevel("fatal")
	fmt.Println(l == narration.LevelFatal, err)
	_, err = narration.ParseLevel("loud")
	fmt.Println(err)
	// Output:
	// true <nil>
	// narration config: Level: want TRACE, DEBUG, INFO, WARN, ERROR, FATAL or MUTE
}

func ExampleParseCorrelation() {
	_, ok := narration.ParseCorrelation("req 7")
	fmt.Println(ok, len(narration.NewCorrelation()))
	// Output: false 36
}

func ExampleParseTraceParent() {
	p, err := narration.ParseTraceParent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	fmt.Println(p, err, p.Child().TraceID == p.TraceID)
	// Output: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01 <nil> true
}
