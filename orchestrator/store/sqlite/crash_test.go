package sqlite_test

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/store/sqlite"
)

// The child of the crash test reads these.
const (
	envCrashPath  = "LLORCH_CRASH_PATH"
	envCrashFirst = "LLORCH_CRASH_FIRST"
	crashClients  = 8
)

func TestMain(m *testing.M) {
	if path := os.Getenv(envCrashPath); path != "" {
		if err := crashChild(path, os.Getenv(envCrashFirst), os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	// Every step of the model is a synced commit; the command line still wins.
	if os.Getenv("LLORCH_NIGHTLY") != "1" {
		if err := flag.Set("rapid.checks", "40"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

func crashID(n int) store.TaskID {
	return store.TaskID{0: 0xcc, 12: byte(n >> 24), 13: byte(n >> 16), 14: byte(n >> 8), 15: byte(n)}
}

func crashTask(n int) store.NewTask {
	return store.NewTask{
		Record: store.Record{ID: crashID(n), Tenant: "default", IdemKey: strconv.Itoa(n), BodyHash: [32]byte{byte(n)}},
		Body:   []byte(strings.Repeat(strconv.Itoa(n), 200)),
	}
}

// crashChild carries tasks first, first+1, … to their end with 8 clients and
// writes a line after every acknowledgement: "S n", "M n" or "C n". It ends when killed.
func crashChild(path, first string, acks io.Writer) error {
	next, err := strconv.Atoi(first)
	if err != nil {
		return err
	}
	ctx := context.Background()
	s, err := sqlite.Open(ctx, sqlite.Config{Path: path})
	if err != nil {
		return err
	}
	l, err := s.Lead(ctx, store.LeaseRequest{Holder: "child"})
	if err != nil {
		return err
	}
	var (
		mu   sync.Mutex // guards next and acks
		wg   sync.WaitGroup
		errs = make(chan error, crashClients)
	)
	ack := func(what string, n int) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintln(acks, what, n)
	}
	for range crashClients {
		wg.Go(func() {
			for range 100_000 {
				mu.Lock()
				n := next
				next++
				mu.Unlock()
				if err := carry(ctx, s, l.Epoch, n, ack); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	return <-errs
}

// carry takes one task from submit to its end.
func carry(ctx context.Context, s *sqlite.Store, e store.Epoch, n int, ack func(string, int)) error {
	stored, err := s.Submit(ctx, e, []store.NewTask{crashTask(n)})
	if err != nil {
		return err
	}
	if err := stored[0].Err; err != nil {
		return err
	}
	ack("S", n)
	started, err := s.Start(ctx, e, []store.StartReq{{ID: crashID(n), Attempt: 1}})
	if err != nil {
		return err
	}
	if err := started[0].Err; err != nil {
		return err
	}
	marked, err := s.Mark(ctx, e, []store.MarkReq{{ID: crashID(n), Attempt: 1}})
	if err := errors.Join(append(marked, err)...); err != nil {
		return err
	}
	ack("M", n)
	ended, err := s.Complete(ctx, e, []store.Completion{{ID: crashID(n), Attempt: 1, State: store.Completed, Output: fmt.Append(nil, "out ", n)}})
	if err := errors.Join(append(ended, err)...); err != nil {
		return err
	}
	ack("C", n)
	return nil
}

// TestCrash is ORC-640 and the crash test of ORC-655: a process is killed at a
// random point, again and again over one file, and everything that it
// acknowledged is there afterwards, once.
func TestCrash(t *testing.T) {
	runs := 20
	switch {
	case os.Getenv("LLORCH_NIGHTLY") == "1":
		runs = 500
	case testing.Short():
		runs = 5
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	var (
		path  string
		acked map[string][]int
		first int
		epoch store.Epoch
		ends  int
	)
	for run := range runs {
		if run%25 == 0 { // a new file, so that the checks stay short
			path, acked, first, epoch = fresh(t), make(map[string][]int), 0, 0
		}
		killAfter(t, path, first, random.IntN(300), acked)
		s := open(t, path)
		last := checkAcknowledged(t, s, acked)
		l, err := s.Lead(t.Context(), store.LeaseRequest{Holder: "parent"})
		if err != nil || l.Epoch < epoch+2 {
			t.Errorf("run %d: Lead() = %+v, %v, want an epoch above the child's, which is above %d", run, l, err, epoch)
		}
		epoch, first, ends = l.Epoch, last+1, ends+len(acked["C"])
		if err := s.Close(); err != nil {
			t.Fatalf("Close() = %v", err)
		}
	}
	if ends == 0 {
		t.Error("no task came to its end in any run")
	}
}

// killAfter starts a child, kills it after that many acknowledgements and adds
// all that it acknowledged before it died.
func killAfter(t *testing.T, path string, first, after int, acked map[string][]int) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var stderr strings.Builder
	child := exec.CommandContext(t.Context(), exe)
	child.Env = append(os.Environ(), envCrashPath+"="+path, envCrashFirst+"="+strconv.Itoa(first))
	child.Stderr = &stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines, seen := bufio.NewScanner(out), 0
	for lines.Scan() {
		what, number, _ := strings.Cut(lines.Text(), " ")
		n, err := strconv.Atoi(number)
		if err != nil {
			break // torn by the kill
		}
		acked[what] = append(acked[what], n)
		if seen++; seen == after+1 {
			if err := child.Process.Kill(); err != nil { // SIGKILL; the pipe still holds what came before
				t.Fatal(err)
			}
		}
	}
	err = child.Wait()
	if e, ok := errors.AsType[*exec.ExitError](err); !ok || e.Exited() {
		t.Fatalf("child ended by itself after %d acknowledgements: %v %s", seen, err, stderr.String())
	}
}

// checkAcknowledged fails for every acknowledgement that did not survive, and
// returns the highest task number in the store.
func checkAcknowledged(t *testing.T, s *sqlite.Store, acked map[string][]int) (last int) {
	t.Helper()
	byID := make(map[store.TaskID]store.Record)
	seq := uint64(0)
	for {
		page, err := s.Tasks(t.Context(), store.Filter{Oldest: true, After: seq, Limit: store.MaxPage})
		if err != nil {
			t.Fatalf("Tasks() = %v", err)
		}
		for _, r := range page {
			if _, twice := byID[r.ID]; twice {
				t.Errorf("task %v is there twice", r.ID)
			}
			byID[r.ID], seq = r, r.Seq
			last = max(last, int(r.ID[12])<<24|int(r.ID[13])<<16|int(r.ID[14])<<8|int(r.ID[15]))
		}
		if len(page) < store.MaxPage {
			break
		}
	}
	for _, n := range acked["S"] {
		if byID[crashID(n)].Seq == 0 {
			t.Errorf("acknowledged task %d is lost", n)
		}
	}
	for _, n := range acked["M"] {
		if !byID[crashID(n)].Emitted {
			t.Errorf("acknowledged mark of task %d is lost", n)
		}
	}
	for _, n := range acked["C"] {
		out, err := s.Output(t.Context(), crashID(n))
		if byID[crashID(n)].State != store.Completed || err != nil || string(out) != fmt.Sprint("out ", n) {
			t.Errorf("acknowledged end of task %d is lost: %s, %q, %v", n, byID[crashID(n)].State, out, err)
		}
	}
	return last
}
