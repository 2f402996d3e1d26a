package examples_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// target is a way to the same engine.
type target struct {
	name, url string
	pid       int             // of its program
	first     []time.Duration // to the first token, per request
	whole     []time.Duration
	perSecond []float64
}

const chat = `{"model":"sim-8b","stream":true,"max_tokens":16,"messages":[{"role":"user","content":"Why is the sky blue?"}]}`

// benchTargets starts an engine of the given speed and the ways to it:
// directly, through nginx and the peers that are installed, and through orchestratord.
func benchTargets(b *testing.B, preset string) []*target {
	b.Helper()
	dir, err := binaries()
	if err != nil {
		b.Fatal(err)
	}
	engine, _ := benchProcess(b, exec.Command(filepath.Join(dir, "enginesim"), "--preset", preset, "-np", "4096", "-c", strconv.Itoa(4096*160_000), "--model", "sim-8b"))
	out := []*target{{name: "direct", url: engine}}
	if path, err := exec.LookPath("nginx"); err == nil {
		url, pid := nginx(b, path, engine)
		out = append(out, &target{name: "nginx", url: url, pid: pid})
	} else {
		b.Log("nginx is not installed: no such row")
	}
	out = append(out, peerTargets(b, engine)...)
	cmd := exec.Command(filepath.Join(dir, "orchestratord"), "--addr", "127.0.0.1:0", "--engines", "local="+engine, "--log-level", "warn")
	cmd.Env = []string{"HOME=" + b.TempDir(), "LLORCH_STATE_DIR=" + b.TempDir()}
	url, pid := benchProcess(b, cmd)
	within(b, 10*time.Second, "orchestratord finds the engine", func() bool {
		res, err := http.Get(url + "/v1/models")
		if err != nil {
			return false
		}
		defer res.Body.Close()
		text, _ := io.ReadAll(res.Body)
		return bytes.Contains(text, []byte("sim-8b"))
	})
	return append(out, &target{name: "llorch", url: url, pid: pid})
}

// benchProcess starts a program and returns the URL that it prints, and its pid.
func benchProcess(b *testing.B, cmd *exec.Cmd) (string, int) {
	b.Helper()
	out := new(lockedBuffer)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = cmd.Process.Signal(syscall.SIGTERM); _ = cmd.Wait() })
	address := regexp.MustCompile(`127\.0\.0\.1:\d+`)
	within(b, 10*time.Second, "the program prints its address", func() bool { return address.MatchString(out.String()) })
	return "http://" + address.FindString(out.String()), cmd.Process.Pid
}

// nginx starts a plain proxy without buffering.
func nginx(b *testing.B, path, engine string) (string, int) {
	b.Helper()
	dir, addr := b.TempDir(), "127.0.0.1:18099"
	conf := fmt.Sprintf(`worker_processes 2; daemon off; pid %[1]s/pid; error_log %[1]s/err; events { worker_connections 1024; }
http { access_log off; client_max_body_size 16m; client_body_buffer_size 8m; client_body_temp_path %[1]s; proxy_temp_path %[1]s; fastcgi_temp_path %[1]s; uwsgi_temp_path %[1]s; scgi_temp_path %[1]s;
upstream e { server %[2]s; keepalive 64; }
server { listen %[3]s; location / { proxy_pass http://e; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; } } }`,
		dir, strings.TrimPrefix(engine, "http://"), addr)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(path, "-c", file, "-p", dir)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = cmd.Process.Signal(syscall.SIGTERM); _ = cmd.Wait() })
	within(b, 5*time.Second, "nginx answers", func() bool {
		res, err := http.Get("http://" + addr + "/health")
		if err == nil {
			res.Body.Close()
		}
		return err == nil
	})
	return "http://" + addr, cmd.Process.Pid
}

// ask streams one chat and returns the time to the first token and to the end.
func ask(b *testing.B, c *http.Client, url string) (first, whole time.Duration) {
	began := time.Now()
	res, err := c.Post(url+"/v1/chat/completions", "application/json", strings.NewReader(chat))
	if err != nil {
		b.Error(err)
		return 0, 0
	}
	defer res.Body.Close()
	in := bufio.NewScanner(res.Body)
	done := false
	for in.Scan() {
		if line := in.Bytes(); first == 0 && bytes.Contains(line, []byte(`"content":"`)) {
			first = time.Since(began)
		} else if bytes.Equal(line, []byte("data: [DONE]")) {
			done = true
		}
	}
	if !done {
		b.Errorf("%s: status %d, no [DONE]", url, res.StatusCode)
	}
	return first, time.Since(began)
}

func percentile(d []time.Duration, p int) time.Duration {
	s := slices.Sorted(slices.Values(d))
	return s[min(len(s)-1, len(s)*p/100)]
}

// BenchmarkFrontSequential: one streamed chat of 16 tokens after the other, the
// ways in turn, so that a change of the machine's speed meets all of them.
func BenchmarkFrontSequential(b *testing.B) {
	for _, preset := range []string{"zero", "h200"} { // all tokens at once, and paced as on a fast GPU
		b.Run(preset, func(b *testing.B) { sequential(b, benchTargets(b, preset)) })
	}
}

func sequential(b *testing.B, targets []*target) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4}}
	for range 20 {
		for _, t := range targets {
			ask(b, client, t.url)
		}
	}
	for b.Loop() {
		for _, t := range targets {
			first, whole := ask(b, client, t.url)
			t.first, t.whole = append(t.first, first), append(t.whole, whole)
		}
	}
	base := targets[0]
	for _, t := range targets {
		for _, p := range []int{50, 99} {
			unit := "_p" + strconv.Itoa(p) + "_us"
			b.ReportMetric(float64(percentile(t.first, p).Microseconds()), t.name+"_first"+unit)
			if t != base {
				b.ReportMetric(float64((percentile(t.first, p) - percentile(base.first, p)).Microseconds()), t.name+"_first_added"+unit)
				b.ReportMetric(float64((percentile(t.whole, p) - percentile(base.whole, p)).Microseconds()), t.name+"_whole_added"+unit)
			}
		}
	}
}

// BenchmarkFrontThroughput: 16 clients at once, one second for each way, in turn.
func BenchmarkFrontThroughput(b *testing.B) {
	targets := benchTargets(b, "zero")
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}}
	for b.Loop() {
		for _, t := range targets {
			t.perSecond = append(t.perSecond, flood(b, client, t.url, 16, time.Second))
		}
	}
	for _, t := range targets {
		b.ReportMetric(median(t.perSecond), t.name+"_req/s")
	}
}

func flood(b *testing.B, c *http.Client, url string, clients int, d time.Duration) float64 {
	var wg sync.WaitGroup
	counts := make([]int, clients)
	began := time.Now()
	for i := range clients {
		wg.Go(func() {
			for time.Since(began) < d {
				ask(b, c, url)
				counts[i]++
			}
		})
	}
	wg.Wait()
	n := 0
	for _, c := range counts {
		n += c
	}
	return float64(n) / time.Since(began).Seconds()
}

func median(v []float64) float64 { s := slices.Sorted(slices.Values(v)); return s[len(s)/2] }
