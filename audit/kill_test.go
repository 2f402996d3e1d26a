package audit_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"

	"github.com/llorch/llorch/audit"
)

// appendForever is the process that is killed: it prints the id of each record
// that was acknowledged.
func appendForever(dir string) {
	l, err := audit.Open(context.Background(), config(dir))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1_000_000 {
				rc, err := l.Append(context.Background(), audit.Event{Data: note{Text: "work"}})
				if err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				mu.Lock()
				fmt.Println(rc.ID)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

func TestKilledProcessLosesNothing(t *testing.T) { // G1, AUD-31; product test of phase A
	dir := t.TempDir() + "/log"
	acked := make(map[string]bool)
	for run := range 3 {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), "AUDIT_TEST_APPEND_TO="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ids := bufio.NewScanner(out)
		for n := 0; ids.Scan(); n++ {
			if len(ids.Text()) == 36 { // the last one may be cut
				acked[ids.Text()] = true
			}
			if n == 200 {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("the process ended by itself")
		}
		l := mustOpen(t, config(dir))
		mustClose(t, l)
		there := make(map[string]bool)
		for _, r := range records(t, dir) {
			there[r.ID] = true
		}
		for id := range acked {
			if !there[id] {
				t.Fatalf("run %d: acknowledged record %s is lost", run, id)
			}
		}
		if rep := mustVerify(t, dir); rep.UncleanRuns != run+1 {
			t.Errorf("run %d: %d unclean runs", run, rep.UncleanRuns)
		}
	}
	if len(acked) < 600 {
		t.Errorf("only %d records acknowledged", len(acked))
	}
}
