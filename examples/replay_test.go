package examples_test

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/llorch/llorch/orchestrator/decisionlog"
	"github.com/llorch/llorch/orchestrator/placement"
)

// nightly reports whether the long tests are wanted.
func nightly() bool { return os.Getenv("LLORCH_NIGHTLY") == "1" }

// engine starts a simulated engine as a process of its own.
func engine(t *testing.T, args ...string) *program {
	t.Helper()
	return start(t, nil, "enginesim", args...)
}

// storm is many callers of /v1 at once.
type storm struct {
	p       *program
	token   string
	callers int
	done    *atomic.Int64 // calls answered so far
	body    func(n int) (body string, headers []string)
}

// run makes n calls, fewer if the program dies; it returns how many were answered
// and the text of the longest answer.
func (s storm) run(ctx context.Context, n int) (answered int, longest string) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: s.callers}}
	defer client.CloseIdleConnections()
	var next atomic.Int64
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range s.callers {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(n) && ctx.Err() == nil; i = next.Add(1) {
				text, err := s.one(ctx, client, int(i))
				if err != nil {
					return
				}
				mu.Lock()
				if len(text) > len(longest) {
					longest = text
				}
				mu.Unlock()
				s.done.Add(1)
			}
		})
	}
	wg.Wait()
	return int(s.done.Load()), longest
}

// one makes a call and returns the text of its answer.
func (s storm) one(ctx context.Context, client *http.Client, n int) (string, error) {
	text, headers := s.body(n)
	req, err := http.NewRequestWithContext(ctx, "POST", s.p.url+"/v1/completions", strings.NewReader(text))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	if s.token != "" {
		req.Header.Set("Authorization", "Bearer "+s.token)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	var answer struct {
		Choices []struct{ Text string }
	}
	if res.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(res.Body)
		return "", fmt.Errorf("status %d: %s", res.StatusCode, said)
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil || len(answer.Choices) != 1 {
		return "", fmt.Errorf("answer: %w", err)
	}
	return answer.Choices[0].Text, nil
}

// segments returns the decision log's files, oldest first.
func segments(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "decisions-*.ndjson"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no segments: %v", err)
	}
	number := func(name string) (epoch, n int) {
		if _, err := fmt.Sscanf(filepath.Base(name), "decisions-%d-%d.ndjson", &epoch, &n); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return epoch, n
	}
	slices.SortFunc(names, func(a, b string) int {
		ea, na := number(a)
		eb, nb := number(b)
		return cmp.Or(cmp.Compare(ea, eb), cmp.Compare(na, nb))
	})
	return names
}

// tapes opens segments as one reader.
func tapes(t *testing.T, names []string) io.Reader {
	t.Helper()
	var parts []io.Reader
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		parts = append(parts, f)
	}
	return io.MultiReader(parts...)
}

// TestReplayOfWholeProgram: what orchestratord decided under load replays without
// a difference, after SIGTERM and after kill -9, whose torn tail the next start
// mends; another policy is shown with what it would have changed; and no segment
// holds a prompt, an answer, a person, a session or a token (ORC-123, 130 to 133,
// G6, G9). With LLORCH_NIGHTLY=1 there are more than 10,000 decisions.
func TestReplayOfWholeProgram(t *testing.T) {
	t.Parallel()
	whole(t)
	total := 2000
	if nightly() {
		total = 24_000
	}
	person, prompt, session := "erika."+rand.Text(), "the prompt is "+rand.Text(), "session-"+rand.Text()
	tokens := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(tokens, []byte(person+" "+apiToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var engines []string
	for i := range 3 {
		e := engine(t, "--preset", "zero", "--seed", fmt.Sprint(i), "-np", fmt.Sprint(2+i))
		engines = append(engines, fmt.Sprintf("e%d=%s", i, e.url))
	}
	state := t.TempDir()
	dir := filepath.Join(state, "decisions")
	begin := func() *program {
		o := controlPlane(t, state, "LLORCH_API_TOKEN_FILE="+tokens, "ORCHESTRATORD_ENGINES="+strings.Join(engines, ","), "ORCHESTRATORD_DECISION_LOG="+dir)
		within(t, 10*time.Second, "the engines are found", func() bool { return ready(t, o) })
		return o
	}
	load := func(o *program) storm {
		return storm{p: o, token: apiToken, callers: 16, done: new(atomic.Int64), body: func(n int) (string, []string) {
			length := 1 + n%4
			if n%200 == 0 {
				length = 48
			}
			return fmt.Sprintf(`{"model":"sim-8b","prompt":%q,"max_tokens":%d,"user":%q}`, prompt, length, person), []string{"X-Session-Id", fmt.Sprintf("%s-%d", session, n%7)}
		}}
	}
	o := begin()
	n, text := load(o).run(t.Context(), total/2)
	if n != total/2 || len(text) < 100 {
		t.Fatalf("%d of %d calls were answered, the longest with %d bytes: %s", n, total/2, len(text), o.errs)
	}
	o.signal(syscall.SIGTERM)
	if code := o.wait(); code != 0 {
		t.Errorf("exit %d: %s", code, o.errs)
	}
	rep, err := decisionlog.Replay(t.Context(), tapes(t, segments(t, dir)))
	if err != nil || rep.Decisions < total/2 || rep.Unsealed != 0 || rep.Gaps != 0 || rep.Torn {
		t.Errorf("after SIGTERM: Replay = %+v, %v", rep, err)
	}

	o = begin() // killed while it answers
	calls, gone := load(o), make(chan struct{})
	go func() { defer close(gone); calls.run(t.Context(), total) }()
	within(t, 5*time.Minute, "most calls are answered", func() bool { return calls.done.Load() >= int64(total*6/10) })
	o.signal(syscall.SIGKILL)
	o.wait()
	<-gone
	torn := tear(t, segments(t, dir))
	o = begin()
	if n, _ := load(o).run(t.Context(), 50); n != 50 {
		t.Errorf("%d of 50 calls were answered after kill -9", n)
	}
	o.signal(syscall.SIGTERM)
	if code := o.wait(); code != 0 {
		t.Errorf("exit %d: %s", code, o.errs)
	}
	names := segments(t, dir)
	began := time.Now()
	rep, err = decisionlog.Replay(t.Context(), tapes(t, names))
	took := time.Since(began)
	if err != nil || rep.Decisions < total || rep.Unsealed != 1 || rep.Gaps != 0 || rep.Torn {
		t.Errorf("after kill -9: Replay = %+v, %v", rep, err)
	}
	t.Logf("%d decisions in %d steps and %d segments replayed in %v, 0 differences", rep.Decisions, rep.Steps, rep.Segments, took)
	diff, err := decisionlog.Diff(t.Context(), tapes(t, names), placement.Policy{Strategy: "round-robin"})
	if err != nil || diff.Decisions != rep.Decisions || diff.Differ == 0 || len(diff.Differences[0].Other.Scores) == 0 {
		t.Errorf("Diff = %d of %d, %v", diff.Differ, diff.Decisions, err)
	}
	t.Logf("round-robin would have decided %d of %d otherwise", diff.Differ, diff.Decisions)
	search := newTrap(canary{"the person", person, true}, canary{"the prompt", prompt, false}, canary{"a session", session, false}, canary{"the token", apiToken, true})
	mended := false
	for _, name := range names {
		all, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		search.none(t, filepath.Base(name), all)
		if strings.Contains(string(all), text) || strings.Contains(string(all), text[:40]) {
			t.Errorf("%s holds an answer", filepath.Base(name))
		}
		mended = mended || strings.Contains(string(all), `"cut":[{"segment":"`+torn)
	}
	if !mended {
		t.Errorf("no first line says that the tail of %s was cut", torn)
	}
}

// tear takes the last bytes off the newest segment, as a crash of the machine may;
// it returns the segment's name.
func tear(t *testing.T, names []string) string {
	t.Helper()
	name := names[len(names)-1]
	info, err := os.Stat(name)
	if err == nil {
		err = os.Truncate(name, info.Size()-3)
	}
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Base(name)
}
