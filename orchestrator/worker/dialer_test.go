package worker_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/orchestrator/worker"
	"github.com/llorch/llorch/orchestrator/worker/workertest"
)

// silent dials connections that take everything and say nothing.
func silent(t *testing.T) func(context.Context, string, string) (net.Conn, error) {
	return func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, far) }()
		t.Cleanup(func() { _ = far.Close() })
		return near, nil
	}
}

const okStream = "data: {\"choices\":[{\"index\":0,\"text\":\"hi\",\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n"

func stream(w http.ResponseWriter, body string) {
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	_, _ = io.WriteString(w, body)
}

// TestHeaders covers ORC-401.
func TestHeaders(t *testing.T) {
	seen := make(chan *http.Request, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Clone(context.Background())
		stream(w, okStream)
	}))
	defer srv.Close()
	d := newDialer(t, worker.Config{})
	due := time.Now().Add(90 * time.Second)
	_, last, err := follow(t.Context(), d, worker.Target{URL: srv.URL + "/", Token: "secret-1"}, &worker.Job{
		ID: "task-1", Kind: worker.Completion, Prompt: "p", Correlation: "corr", Traceparent: "00-aa-bb-01", Deadline: due,
	})
	if err != nil || last.Kind != worker.Done || last.Usage != (worker.Usage{Out: 1, Estimated: true}) {
		t.Fatalf("%+v, %v", last, err)
	}
	h := (<-seen).Header
	for name, want := range map[string]string{
		"Idempotency-Key": "task-1", "X-Correlation-Id": "corr", "Traceparent": "00-aa-bb-01", "Authorization": "Bearer secret-1",
		"Accept-Encoding": "identity", "Content-Type": "application/json", "Accept": "text/event-stream", "User-Agent": "llorch",
		"X-Deadline": fmt.Sprint(due.UnixMilli()),
	} {
		if got := h.Values(name); len(got) != 1 || got[0] != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	var ms int
	if _, err := fmt.Sscan(h.Get("X-Request-Timeout-Ms"), &ms); err != nil || ms < 60_000 || ms > 90_000 {
		t.Errorf("X-Request-Timeout-Ms = %q", h.Get("X-Request-Timeout-Ms"))
	}

	for name, j := range map[string]*worker.Job{
		"forged header":   {Kind: worker.Completion, Correlation: "a\r\nX-Evil: 1"},
		"unknown kind":    {Kind: "translation"},
		"broken messages": {Kind: worker.Chat, Messages: []byte(`[`)},
		"broken raw":      {Kind: worker.Chat, Raw: []byte(`{`)},
	} {
		if _, err := d.Start(t.Context(), worker.Target{URL: srv.URL}, j); class(err) != worker.Rejected {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := d.Start(t.Context(), worker.Target{URL: srv.URL}, &worker.Job{Kind: worker.Completion, Deadline: time.Now().Add(-time.Second)}); class(err) != worker.Timeout {
		t.Errorf("after the deadline: %v", err)
	}
	if len(seen) != 0 {
		t.Error("a job that can not be sent reached the engine")
	}
}

// TestBodies: what a job without Raw says, per flavour.
func TestBodies(t *testing.T) {
	seen := make(chan string, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		seen <- r.URL.Path + " " + string(b)
		stream(w, okStream)
	}))
	defer srv.Close()
	d := newDialer(t, worker.Config{})
	seed, temp := int64(5), 0.5
	params := worker.Params{Seed: &seed, Temperature: &temp, RepetitionPenalty: &temp, Stop: []string{"x"}}
	for _, tc := range []struct {
		to   worker.Target
		job  worker.Job
		want string
	}{
		{
			worker.Target{},
			worker.Job{Kind: worker.Completion, Model: "m", Prompt: "é<"},
			`/v1/completions {"model":"m","prompt":"é\u003c","stream":true,"stream_options":{"include_usage":true}}`,
		},
		{
			worker.Target{Model: "served"},
			worker.Job{Kind: worker.Chat, Model: "m", Messages: []byte(`[{"role":"user"}]`), MaxTokens: 9},
			`/v1/chat/completions {"model":"served","messages":[{"role":"user"}],"stream":true,"stream_options":{"include_usage":true},"max_tokens":9}`,
		},
		{
			worker.Target{Flavour: worker.LlamaCPP},
			worker.Job{Kind: worker.Completion, Params: params},
			`/v1/completions {"model":"","prompt":"","stream":true,"stream_options":{"include_usage":true},"temperature":0.5,"seed":5,"stop":["x"],"repeat_penalty":0.5}`,
		},
		{
			worker.Target{Flavour: worker.VLLM},
			worker.Job{Kind: worker.Completion, Params: params},
			`/v1/completions {"model":"","prompt":"","stream":true,"stream_options":{"include_usage":true},"temperature":0.5,"repetition_penalty":0.5,"seed":5,"stop":["x"]}`,
		},
		{
			worker.Target{Flavour: worker.Ollama},
			worker.Job{Kind: worker.Completion, Params: params},
			`/v1/completions {"model":"","prompt":"","stream":true,"stream_options":{"include_usage":true},"temperature":0.5,"seed":5,"stop":["x"]}`,
		},
		{
			worker.Target{Model: "served"},
			worker.Job{Kind: worker.Chat, Raw: []byte(`{ "model" : "m", "x":1.0, "stream":true }`), Stream: true},
			`/v1/chat/completions { "model" : "served", "x":1.0, "stream":true ,"stream_options":{"include_usage":true}}`,
		},
	} {
		tc.to.URL = srv.URL
		if _, _, err := follow(t.Context(), d, tc.to, &tc.job); err != nil {
			t.Fatal(err)
		}
		if got := <-seen; got != tc.want {
			t.Errorf("got  %s\nwant %s", got, tc.want)
		}
	}
}

// TestDialGuard covers ORC-401: the address that is really connected counts.
func TestDialGuard(t *testing.T) {
	e := workertest.Start(workertest.Config{Preset: "zero"})
	defer e.Close()
	public := newDialer(t, worker.Config{Allow: []inputvalidation.AddrKind{inputvalidation.AddrPublic}})
	if _, err := public.Probe(t.Context(), worker.Target{URL: e.URL}); class(err) != worker.Connect {
		t.Errorf("loopback where only public is allowed: %v", err)
	}
	byName := strings.Replace(e.URL, "127.0.0.1", "localhost", 1)
	if _, err := public.Probe(t.Context(), worker.Target{URL: byName}); class(err) != worker.Connect {
		t.Errorf("a name for loopback: %v", err)
	}
	home := newDialer(t, worker.Config{})
	if _, err := home.Probe(t.Context(), worker.Target{URL: byName}); err != nil {
		t.Errorf("loopback by default: %v", err)
	}
	for _, u := range []string{"http://169.254.169.254", "http://8.8.8.8:1", "http://[::ffff:8.8.8.8]:1", "http://0x08080808:1"} {
		if _, err := home.Probe(t.Context(), worker.Target{URL: u}); class(err) != worker.Connect {
			t.Errorf("%s: %v", u, err)
		}
	}
	for _, u := range []string{"", "ftp://127.0.0.1", "127.0.0.1:80", "http://u:p@127.0.0.1", "http://127.0.0.1/x", "http://127.0.0.1?x", "http://127.0.0.1#x", "http://", "http://a b"} {
		if _, err := home.Probe(t.Context(), worker.Target{URL: u}); class(err) != worker.Connect {
			t.Errorf("URL %q: %v", u, err)
		}
	}
	if st := e.Stats(); st.Arrived != 0 {
		t.Errorf("%d requests arrived", st.Arrived)
	}
}

func TestConfigFaults(t *testing.T) {
	_, err := worker.NewDialer(worker.Config{Allow: []inputvalidation.AddrKind{99}, TLS: &tls.Config{MaxVersion: tls.VersionTLS11}})
	if err == nil || !strings.Contains(err.Error(), "Allow") || !strings.Contains(err.Error(), "TLS") {
		t.Errorf("NewDialer = %v, want both faults", err)
	}
}

// TestHostileAnswers covers ORC-447: each ends with its class, and none of their
// bytes is in the error.
func TestHostileAnswers(t *testing.T) {
	token := "data: {\"choices\":[{\"text\":\"canary\"}]}\n\n"
	for name, tc := range map[string]struct {
		answer func(w http.ResponseWriter, r *http.Request)
		class  worker.Class
	}{
		"redirect":     {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/canary", http.StatusFound) }, worker.Protocol},
		"created":      {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusCreated) }, worker.Protocol},
		"teapot":       {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }, worker.Denied},
		"slow request": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusRequestTimeout) }, worker.Timeout},
		"large header": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X", strings.Repeat("canary", 12_000))
			stream(w, okStream)
		}, worker.Protocol},
		"compressed": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			stream(w, okStream)
		}, worker.Protocol},
		"large token": {func(w http.ResponseWriter, _ *http.Request) {
			stream(w, strings.Replace(token, "canary", strings.Repeat("canary", 170_000), 1)+strings.Repeat(token, 2)+"data: {\"choices\":[{\"text\":\""+strings.Repeat("a", 200_000)+"\"}]}\n\n")
		}, worker.Protocol},
		"comments": {func(w http.ResponseWriter, _ *http.Request) { stream(w, strings.Repeat(": canary\n\n", 300_000)) }, worker.Protocol},
		"error event": {func(w http.ResponseWriter, _ *http.Request) {
			stream(w, "event: error\ndata: {\"message\":\"canary\"}\n\n")
		}, worker.Server},
		"error string":  {func(w http.ResponseWriter, _ *http.Request) { stream(w, token+"data: {\"error\":\"canary\"}\n\n") }, worker.Server},
		"no finish":     {func(w http.ResponseWriter, _ *http.Request) { stream(w, token) }, worker.Reset},
		"not an object": {func(w http.ResponseWriter, _ *http.Request) { stream(w, "data: [\"canary\"]\n\n") }, worker.Protocol},
		"empty":         {func(w http.ResponseWriter, _ *http.Request) { stream(w, "") }, worker.Reset},
		"chunked coding": {func(w http.ResponseWriter, _ *http.Request) {
			raw(w, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\nzz canary\r\n")
		}, worker.Protocol},
		"not HTTP":   {func(w http.ResponseWriter, _ *http.Request) { raw(w, "SSH-2.0-canary\r\n\r\n") }, worker.Protocol},
		"cut header": {func(w http.ResponseWriter, _ *http.Request) { raw(w, "HTTP/1.1 200 OK\r\nX: y\r\n") }, worker.Reset},
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(tc.answer))
			defer srv.Close()
			_, _, err := follow(t.Context(), newDialer(t, worker.Config{}), worker.Target{URL: srv.URL}, &worker.Job{Kind: worker.Completion, Prompt: "p", MaxTokens: 2})
			if class(err) != tc.class || strings.Contains(err.Error(), "canary") || strings.Contains(err.Error(), "127.0.0.1") {
				t.Errorf("%v, want class %s", err, tc.class)
			}
		})
	}
}

// raw answers with bytes of its own.
func raw(w http.ResponseWriter, answer string) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	_, _ = io.WriteString(conn, answer)
	_ = conn.Close()
}

// TestHostileResults: the same for answers that come whole.
func TestHostileResults(t *testing.T) {
	for name, tc := range map[string]struct {
		body  string
		class worker.Class
	}{
		"too large":     {`{"x":"` + strings.Repeat("canary", 250_000) + `"}`, worker.Protocol},
		"two documents": {`{}{}`, worker.Protocol},
		"error inside":  {`{"error":{"message":"canary"}}`, worker.Server},
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				_, _ = io.WriteString(w, tc.body)
			}))
			defer srv.Close()
			_, _, err := follow(t.Context(), newDialer(t, worker.Config{}), worker.Target{URL: srv.URL}, &worker.Job{Kind: worker.Completion, Raw: []byte("{}"), MaxTokens: 2})
			if class(err) != tc.class || strings.Contains(err.Error(), "canary") {
				t.Errorf("%v, want class %s", err, tc.class)
			}
		})
	}
}

// TestNothingIsRetriedHere: net/http repeats requests that have an idempotency
// key when a kept connection breaks; ours reaches an engine once.
func TestNothingIsRetriedHere(t *testing.T) {
	var arrived atomic.Int64
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // the first request of a connection is served, the second breaks it
				defer c.Close()
				in := bufio.NewReader(c)
				for n := range 2 {
					r, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, r.Body)
					arrived.Add(1)
					if n == 0 {
						_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n%s", len(okStream), okStream)
					}
				}
			}()
		}
	}()
	d := newDialer(t, worker.Config{})
	to, j := worker.Target{URL: "http://" + l.Addr().String()}, &worker.Job{ID: "t-1", Kind: worker.Completion, Prompt: "p"}
	if _, _, err := follow(t.Context(), d, to, j); err != nil {
		t.Fatal(err)
	}
	if _, _, err := follow(t.Context(), d, to, j); class(err) != worker.Reset {
		t.Errorf("the second call = %v, want class reset", err)
	}
	if n := arrived.Load(); n != 2 {
		t.Errorf("%d requests arrived, want 2", n)
	}
}

// TestConnectionIsKept covers ORC-448: after a whole answer, also one with late
// frames, and after a refusal the connection serves the next job.
func TestConnectionIsKept(t *testing.T) {
	var dials atomic.Int64
	cfg := worker.Config{Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		dials.Add(1)
		var d net.Dialer
		return d.DialContext(ctx, network, addr)
	}}
	faults, err := workertest.ParseFaults("after-done@request=1 status:500@request=2")
	if err != nil {
		t.Fatal(err)
	}
	e := workertest.Start(workertest.Config{Preset: "zero", Faults: faults})
	defer e.Close()
	d := newDialer(t, cfg)
	for i := range 4 {
		j := &worker.Job{Kind: worker.Completion, Prompt: "p"}
		if i == 3 {
			j.Raw = []byte(`{"prompt":"p"}`)
		}
		_, _, err := follow(t.Context(), d, worker.Target{URL: e.URL}, j)
		if (err != nil) != (i == 1) {
			t.Errorf("job %d: %v", i, err)
		}
	}
	if n := dials.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
	if st := d.Stats(); st.LateFrames != 3 {
		t.Errorf("Stats = %+v, want 3 late frames", st)
	}
}

// TestTLS: TLS 1.2 is the least, and the certificate counts.
func TestTLS(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { stream(w, okStream) }))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	defer srv.Close()
	j := &worker.Job{Kind: worker.Completion, Prompt: "p"}
	if _, _, err := follow(t.Context(), newDialer(t, worker.Config{}), worker.Target{URL: srv.URL}, j); class(err) != worker.Connect {
		t.Errorf("a stranger's certificate: %v", err)
	}
	conf := srv.Client().Transport.(*http.Transport).TLSClientConfig
	if _, _, err := follow(t.Context(), newDialer(t, worker.Config{TLS: conf}), worker.Target{URL: srv.URL}, j); err != nil {
		t.Errorf("a known certificate: %v", err)
	}
}
