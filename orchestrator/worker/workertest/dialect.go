package workertest

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/llorch/llorch/orchestrator/worker"
)

// routes are those of the engine's dialect.
func (e *Engine) routes() *http.ServeMux {
	m := http.NewServeMux()
	for path, k := range map[string]worker.Kind{
		"completions": worker.Completion, "chat/completions": worker.Chat, "embeddings": worker.Embedding, "rerank": worker.Rerank,
	} {
		if k != worker.Rerank || e.cfg.Flavour != worker.Ollama {
			m.HandleFunc("POST /v1/"+path, func(w http.ResponseWriter, r *http.Request) { e.generate(w, r, k) })
		}
	}
	m.HandleFunc("GET /v1/models", e.keyed(e.models))
	switch e.cfg.Flavour {
	case worker.LlamaCPP:
		m.HandleFunc("GET /health", e.health)
		m.HandleFunc("GET /props", e.keyed(e.props))
		m.HandleFunc("GET /slots", e.keyed(e.slotList))
		m.HandleFunc("GET /metrics", e.keyed(e.metrics))
	case worker.VLLM:
		m.HandleFunc("GET /health", e.health)
		m.HandleFunc("GET /version", e.keyed(e.version))
	case worker.Ollama:
		m.HandleFunc("GET /api/version", e.keyed(e.version))
	}
	return m
}

// ServeHTTP answers one request. After Close it breaks the connection.
func (e *Engine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	if e.dead {
		e.mu.Unlock()
		panic(http.ErrAbortHandler)
	}
	e.work.Add(1)
	e.mu.Unlock()
	defer e.work.Done()
	e.mux.ServeHTTP(w, r)
}

// keyed guards what is not for everybody and waits for the load.
func (e *Engine) keyed(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if status, msg := e.admit(r); status != 0 && !(status == http.StatusServiceUnavailable && e.lies("health-lies")) {
			fail(w, status, msg)
			return
		}
		h(w, r)
	}
}

// admit checks the key and the load; 0 means both are fine.
func (e *Engine) admit(r *http.Request) (status int, msg string) {
	if !e.keyFits(r.Header.Get("Authorization")) {
		return http.StatusUnauthorized, "Invalid API Key"
	}
	if e.loading() {
		return http.StatusServiceUnavailable, "Loading model"
	}
	return 0, ""
}

func (e *Engine) keyFits(header string) bool {
	got := sha256.Sum256([]byte(strings.TrimPrefix(header, "Bearer ")))
	fits := len(e.cfg.Keys) == 0
	for _, k := range e.cfg.Keys {
		want := sha256.Sum256([]byte(k))
		fits = subtle.ConstantTimeCompare(got[:], want[:]) == 1 || fits
	}
	return fits
}

func (e *Engine) loading() bool { return time.Since(e.born) < e.cfg.LoadDelay }

func (e *Engine) health(w http.ResponseWriter, _ *http.Request) {
	if e.loading() && !e.lies("health-lies") {
		writeJSON(w, http.StatusServiceUnavailable, map[string]any{"status": "loading", "error": errorObject(http.StatusServiceUnavailable, "Loading model")})
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"status": "ok"})
}

// lies reports whether a fault is on that shows in probes, not in requests for work.
func (e *Engine) lies(kind string) bool {
	return slices.ContainsFunc(e.activeFaults(), func(f Fault) bool { return f.Kind == kind && time.Since(e.born) >= f.After })
}

func (e *Engine) models(w http.ResponseWriter, _ *http.Request) {
	owner := map[worker.Flavour]string{worker.LlamaCPP: "llamacpp", worker.VLLM: "vllm", worker.Ollama: "library"}[e.cfg.Flavour]
	alias := e.cfg.Alias
	if e.lies("wrong-model") {
		alias += "-other"
	}
	m := map[string]any{"id": alias, "object": "model", "created": e.born.Unix(), "owned_by": owner}
	if e.cfg.Flavour == worker.VLLM {
		m["max_model_len"] = e.cfg.Ctx
	}
	writeJSON(w, http.StatusOK, map[string]any{"object": "list", "data": []any{m}})
}

func (e *Engine) props(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{
		"total_slots": e.cfg.Slots, "model_alias": e.cfg.Alias, "model_path": e.cfg.Model, "build_info": e.cfg.Version,
		"default_generation_settings": map[string]any{"n_ctx": e.cfg.Ctx},
	})
}

func (e *Engine) slotList(w http.ResponseWriter, _ *http.Request) {
	running, _ := e.slots.load()
	list := make([]map[string]any, e.cfg.Slots)
	for i := range list {
		list[i] = map[string]any{"id": i, "n_ctx": e.cfg.Ctx, "is_processing": i < running}
	}
	writeJSON(w, http.StatusOK, list)
}

func (e *Engine) metrics(w http.ResponseWriter, _ *http.Request) {
	st := e.Stats()
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	for _, m := range []struct {
		name, kind string
		value      int64
	}{
		{"llamacpp:tokens_predicted_total", "counter", st.Tokens},
		{"llamacpp:requests_processing", "gauge", int64(st.Running)},
		{"llamacpp:requests_deferred", "gauge", int64(st.Waiting)},
	} {
		_, _ = fmt.Fprintf(w, "# TYPE %s %s\n%s %d\n", m.name, m.kind, m.name, m.value)
	}
}

func (e *Engine) version(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{"version": e.cfg.Version})
}

// busy is the status of an engine whose queue is full.
func (e *Engine) busy() int {
	switch e.cfg.Flavour {
	case worker.LlamaCPP, worker.Ollama:
		return http.StatusServiceUnavailable
	}
	return http.StatusTooManyRequests
}

// serves reports whether name is ours; llama.cpp does not look at it.
func (e *Engine) serves(name string) bool {
	return name == e.cfg.Alias || e.cfg.Flavour == worker.LlamaCPP
}

func errorObject(status int, msg string) map[string]any {
	return map[string]any{"code": status, "message": msg, "type": strings.ReplaceAll(strings.ToLower(http.StatusText(status)), " ", "_")}
}

// fail answers in OpenAI's error shape.
func fail(w http.ResponseWriter, status int, msg string) {
	writeJSON(w, status, map[string]any{"error": errorObject(status, msg)})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic("workertest: a document that does not marshal")
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n'))
}
