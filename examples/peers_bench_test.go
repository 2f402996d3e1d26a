package examples_test

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// peer is another program that passes chats on: how to start it in front of an
// engine, and below which path it serves the OpenAI routes.
type peer struct {
	program, prefix string
	args            func(file, addr string) []string
	config          func(engine, addr string) string
}

// peers are looked for on PATH; build them from their published source to see
// their rows. Logs, limits and dashboards are off, so that the way itself is measured.
func peers() []peer {
	return []peer{
		{"olla", "/olla/openai", func(file, _ string) []string { return []string{"-c", file} }, func(engine, addr string) string {
			host, port, _ := strings.Cut(addr, ":")
			return fmt.Sprintf(`server: {host: %q, port: %s, request_logging: false, write_timeout: 0s, rate_limits: {global_requests_per_minute: 0, per_ip_requests_per_minute: 0, burst_size: 0}}
proxy: {engine: olla, profile: streaming, load_balancer: least-connections}
discovery: {type: static, static: {endpoints: [{url: %q, name: sim, type: openai, priority: 100, model_url: /v1/models, health_check_url: /health, check_interval: 2s, check_timeout: 1s}]}, model_discovery: {enabled: true, interval: 5m, timeout: 5s, concurrent_workers: 1}}
logging: {level: error, format: json, output: stdout}
`, host, port, engine)
		}},
		{"llama-swap", "", func(file, addr string) []string { return []string{"-config", file, "-listen", addr} }, func(engine, _ string) string {
			return fmt.Sprintf("logLevel: error\ncaptureBuffer: 0\nperformance: {disabled: true}\nmodels: {}\npeers:\n  sim: {proxy: %q, models: [sim-8b]}\n", engine)
		}},
	}
}

// peerTargets starts the peers that are installed.
func peerTargets(b *testing.B, engine string) (out []*target) {
	b.Helper()
	for i, p := range peers() {
		path, err := exec.LookPath(p.program)
		if err != nil {
			b.Logf("%s is not installed: no such row", p.program)
			continue
		}
		dir, addr := b.TempDir(), "127.0.0.1:"+strconv.Itoa(18100+i)
		file := filepath.Join(dir, "config.yaml")
		if err := os.WriteFile(file, []byte(p.config(engine, addr)), 0o600); err != nil {
			b.Fatal(err)
		}
		cmd := exec.Command(path, p.args(file, addr)...)
		log := new(lockedBuffer)
		cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, []string{"HOME=" + dir}, log, log
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		t := &target{name: p.program, url: "http://" + addr + p.prefix, pid: cmd.Process.Pid}
		answers := func() bool {
			res, err := http.Post(t.url+"/v1/chat/completions", "application/json", strings.NewReader(chat))
			if err != nil {
				return false
			}
			defer res.Body.Close()
			text, _ := io.ReadAll(res.Body)
			return bytes.Contains(text, []byte("[DONE]"))
		}
		for end := time.Now().Add(15 * time.Second); !answers(); {
			if time.Now().After(end) {
				b.Fatalf("%s does not answer: %s", p.program, log)
			}
			<-time.After(100 * time.Millisecond)
		}
		out = append(out, t)
	}
	return out
}

// used is the processor time that a process has taken.
func used(pid int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// resident is the memory of a process in bytes.
func resident(pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	pages, _ := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

// BenchmarkFrontRate: 500 chats of one token a second through every way in turn,
// open loop: a slow answer delays no other request.
func BenchmarkFrontRate(b *testing.B) {
	targets := benchTargets(b, "zero")
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256}}
	for b.Loop() {
		for _, t := range targets {
			t.whole = append(t.whole, paced(b, client, t, 500, 2*time.Second)...)
		}
	}
	for _, t := range targets {
		for _, p := range []int{50, 99} {
			added := percentile(t.whole, p) - percentile(targets[0].whole, p)
			b.ReportMetric(float64(added.Microseconds()), fmt.Sprintf("%s_added_p%d_us", t.name, p))
		}
	}
}

func paced(b *testing.B, c *http.Client, t *target, perSecond int, d time.Duration) []time.Duration {
	var mu sync.Mutex
	var wg sync.WaitGroup
	var out []time.Duration
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	defer tick.Stop()
	for began := time.Now(); time.Since(began) < d; <-tick.C {
		wg.Go(func() {
			_, whole := ask(b, c, t.url)
			mu.Lock()
			defer mu.Unlock()
			out = append(out, whole)
		})
	}
	wg.Wait()
	return out
}

// BenchmarkFrontCost: processor time of each way per token of long answers, and
// for one prompt of 100,000 tokens.
func BenchmarkFrontCost(b *testing.B) {
	targets := benchTargets(b, "zero")
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	long := strings.Replace(chat, `"max_tokens":16`, `"max_tokens":1000`, 1)
	large := strings.Replace(long, "Why is the sky blue?", strings.Repeat("word ", 100_000), 1)
	perToken, prompt := map[string][]float64{}, map[string][]float64{}
	post := func(t *target, body string) {
		res, err := client.Post(t.url+"/v1/chat/completions", "application/json", strings.NewReader(body))
		if err != nil {
			b.Error(err)
			return
		}
		defer res.Body.Close()
		if text, _ := io.ReadAll(res.Body); !bytes.Contains(text, []byte("[DONE]")) {
			b.Errorf("%s: status %d", t.name, res.StatusCode)
		}
	}
	for b.Loop() {
		for _, t := range targets[1:] {
			before := used(t.pid)
			for range 50 {
				post(t, long)
			}
			middle := used(t.pid)
			for range 20 {
				post(t, large)
			}
			perToken[t.name] = append(perToken[t.name], float64((middle-before).Microseconds())/50_000)
			prompt[t.name] = append(prompt[t.name], float64((used(t.pid)-middle).Milliseconds())/20)
		}
	}
	for _, t := range targets[1:] {
		b.ReportMetric(median(perToken[t.name]), t.name+"_us/token")
		b.ReportMetric(median(prompt[t.name]), t.name+"_ms/100k-prompt")
	}
}

// BenchmarkFrontIdleStreams: memory of one open stream that waits for its next token.
func BenchmarkFrontIdleStreams(b *testing.B) {
	const streams = 2000
	targets := benchTargets(b, "cpu") // some tokens a second
	for b.Loop() {
		for _, t := range targets[1:] {
			client := &http.Client{Transport: &http.Transport{}}
			before, bodies := resident(t.pid), make([]io.Closer, 0, streams)
			body := strings.Replace(chat, `"max_tokens":16`, `"max_tokens":20000`, 1)
			var mu sync.Mutex
			var wg sync.WaitGroup
			for part := range slices.Chunk(make([]int, streams), 50) {
				for range part {
					wg.Go(func() {
						res, err := client.Post(t.url+"/v1/chat/completions", "application/json", strings.NewReader(body))
						if err != nil {
							b.Error(err)
							return
						}
						mu.Lock()
						defer mu.Unlock()
						bodies = append(bodies, res.Body)
					})
				}
				wg.Wait()
			}
			b.ReportMetric(float64(resident(t.pid)-before)/float64(cmp.Or(len(bodies), 1))/1024, t.name+"_KB/stream")
			for _, c := range bodies {
				_ = c.Close()
			}
			client.CloseIdleConnections()
		}
	}
}
