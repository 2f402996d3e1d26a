package audit_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/audit"
	"github.com/llorch/llorch/audit/events"
	"github.com/llorch/llorch/audit/internal/faultfs"
)

// note is an application's own type, with free text in every shape.
type note struct {
	List []string          `json:"list,omitzero"`
	Map  map[string]string `json:"map,omitzero"`
	N    int64             `json:"n"`
	Text string            `json:"text,omitzero"`
}

// alarm is a critical one.
type alarm struct {
	N uint64 `json:"n"`
}

func types() []audit.TypeInfo {
	return append(events.Types(),
		audit.TypeInfo{Name: "app.note", Data: note{}},
		audit.TypeInfo{Name: "app.alarm", Class: audit.Critical, Data: alarm{}})
}

func config(dir string) audit.Config {
	return audit.Config{Dir: dir, Service: "test", Types: types(), MinFree: -1}
}

func mustOpen(t testing.TB, c audit.Config) *audit.Log {
	t.Helper()
	l, err := audit.Open(t.Context(), c)
	if err != nil {
		t.Fatalf("Open() = %v", err)
	}
	t.Cleanup(func() { _ = l.Close(context.WithoutCancel(t.Context())) })
	return l
}

func mustAppend(t testing.TB, l *audit.Log, e audit.Event) audit.Receipt {
	t.Helper()
	rc, err := l.Append(t.Context(), e)
	if err != nil {
		t.Fatalf("Append() = %v", err)
	}
	return rc
}

func mustClose(t testing.TB, l *audit.Log) {
	t.Helper()
	if err := l.Close(t.Context()); err != nil {
		t.Fatalf("Close() = %v", err)
	}
}

func verifyDir(t testing.TB, dir string) *audit.Report {
	t.Helper()
	rep, err := audit.Verify(t.Context(), os.DirFS(dir), audit.VerifyOptions{Require: audit.AssuranceChain})
	if err != nil {
		t.Fatalf("Verify() = %v", err)
	}
	return rep
}

func mustVerify(t testing.TB, dir string) *audit.Report {
	t.Helper()
	rep := verifyDir(t, dir)
	if !rep.OK {
		t.Fatalf("Verify() found %v", rep.Findings)
	}
	return rep
}

// records reads all files of a directory in their order; day order is enough
// where a test makes one file.
func records(t testing.TB, dir string) []audit.Record {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.audit"))
	if err != nil {
		t.Fatal(err)
	}
	var all []audit.Record
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for l := range strings.Lines(string(b)) {
			r, err := audit.ParseRecord([]byte(l))
			if err != nil {
				t.Fatalf("ParseRecord(%s) = %v", l, err)
			}
			all = append(all, r)
		}
	}
	return all
}

func TestAppendIsStored(t *testing.T) { // AUD-8, AUD-9, AUD-19, AUD-20
	dir := t.TempDir() + "/log"
	l := mustOpen(t, config(dir))
	rc := mustAppend(t, l, audit.Event{
		Type: "app.note", Actor: audit.User("alice", netip.MustParseAddr("192.0.2.7")), Reason: "why",
		Resource: audit.Resource{Kind: "doc", ID: "d1", Parent: "p"}, Outcome: audit.Denied,
		Correlation: "c-1", TraceID: strings.Repeat("ab", 16), SpanID: strings.Repeat("cd", 8),
		Data: note{Text: "hi\x1b", N: -5, List: []string{"a", "b"}, Map: map[string]string{"z": "1", "y": "2"}},
	})
	mustAppend(t, l, audit.Event{Data: &events.TaskCompleted{TaskID: "t1", WorkerID: "w"}})
	mustClose(t, l)
	all := records(t, dir)
	if len(all) != 4 || rc.Seq != 1 {
		t.Fatalf("%d records, receipt %+v", len(all), rc)
	}
	r := all[1]
	want := `{"list":["a","b"],"map":{"y":"2","z":"1"},"n":-5,"text":"hi\\x1b"}`
	if got := string(r.Event.Data.(json.RawMessage)); got != want {
		t.Errorf("data = %s, want %s", got, want)
	}
	if r.ID != rc.ID || r.Hash != rc.Hash || !r.At.Equal(rc.At) || r.Event.Outcome != audit.Denied ||
		r.Event.Actor.IP.String() != "192.0.2.7" || r.Event.Resource.Parent != "p" || r.Class != audit.Routine ||
		r.Event.Correlation != "c-1" || len(r.Event.TraceID) != 32 || len(r.Event.SpanID) != 16 || fmt.Sprint(r.Flags) != "[escaped]" {
		t.Errorf("record = %+v", r)
	}
	if strings.Contains(rc.At.String(), "m=") { // else a step of the wall clock could put a line before its predecessor
		t.Errorf("At = %v has a monotonic reading", rc.At)
	}
	if all[0].Event.Type != "audit.started" || all[3].Event.Type != "audit.stopped" || all[2].Event.Actor != audit.System() {
		t.Errorf("types: %s %s", all[0].Event.Type, all[3].Event.Type)
	}
	rep := mustVerify(t, dir)
	if rep.Records != 4 || rep.UncleanRuns != 0 || rep.Assurance != audit.AssuranceChain || rep.LiveTail {
		t.Errorf("report = %+v", rep)
	}
}

func TestRestartContinuesChain(t *testing.T) { // trap: second genesis on the same day
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		l := mustOpen(t, config(dir))
		rc := mustAppend(t, l, audit.Event{Data: alarm{N: 1}})
		if want := uint64(3*i + 1); rc.Seq != want {
			t.Errorf("run %d: Seq = %d, want %d", i, rc.Seq, want)
		}
		mustClose(t, l)
	}
	if rep := mustVerify(t, dir); rep.Records != 9 || rep.Files != 1 {
		t.Errorf("report = %+v", rep)
	}
	for _, r := range records(t, dir) {
		if r.Event.Type == "audit.started" && !strings.Contains(string(r.Raw), `"prev_clean":true`) {
			t.Errorf("unclean: %s", r.Raw)
		}
	}
}

func TestInvalidEvents(t *testing.T) { // AUD-4, AUD-5
	l := mustOpen(t, config(t.TempDir()+"/log"))
	alice := audit.User("alice", netip.Addr{})
	for want, e := range map[string]audit.Event{
		"Type":           {Type: "audit.started", Data: note{}},
		"path":           {Type: "auth.success", Actor: alice, Data: events.AuthSuccess{}},
		"actor":          {Data: events.AuthSuccess{Path: "/"}},
		"actor.id":       {Actor: audit.User("", netip.Addr{}), Data: events.AuthSuccess{Path: "/"}},
		"actor.kind":     {Actor: audit.Actor{Kind: "robot", ID: "x"}, Data: note{}},
		"actor.auth":     {Actor: audit.Actor{Kind: "user", ID: "x", Auth: "magic"}, Data: note{}},
		"reason":         {Actor: alice, Data: events.TaskCanceled{TaskID: "t"}},
		"n":              {Data: note{N: 1 << 53}},
		"data":           {Type: "app.note", Data: alarm{}},
		"token_fp":       {Actor: alice, Reason: "old", Data: events.TokenRevoked{TokenFP: "secret-token"}},
		"res":            {Resource: audit.Resource{Kind: "x"}, Data: note{}},
		"out":            {Outcome: 9, Data: note{}},
		"prompt_sha256":  {Actor: alice, Data: events.TaskSubmitted{TaskID: "t", ModelRef: "m"}},
		"reason ":        {Reason: "Two words", Data: events.AuthFailure{Path: "/"}},
		"scope":          {Actor: alice, Data: events.TokenCreated{TokenFP: "abcdef"}},
		"data (nil)":     {Type: "app.note"},
		"data (nil ptr)": {Data: (*note)(nil)},
	} {
		_, err := l.Append(t.Context(), e)
		fe, ok := errors.AsType[*audit.FieldError](err)
		field, _, _ := strings.Cut(want, " ")
		if !ok || fe.Field != field {
			t.Errorf("%s: Append() = %v", want, err)
		}
		if err != nil && (strings.Contains(err.Error(), "secret-token") || strings.Contains(err.Error(), "robot")) {
			t.Errorf("error echoes content: %v", err)
		}
	}
	if s := l.Stats(); s.Invalid != 17 || s.Records != 1 {
		t.Errorf("Stats() = %+v", s)
	}
}

func TestConfigFaultsTogether(t *testing.T) { // AUD-18
	_, err := audit.Open(t.Context(), audit.Config{Service: "Bad Name", QueueEvents: 3, RotateBytes: 5, Types: []audit.TypeInfo{
		{Name: "audit.mine", Data: note{}},
		{Name: "x", Data: note{}},
		{Name: "a.b", Data: 5},
		{Name: "a.c", Data: struct{ F float64 }{}},
		{Name: "a.d", Data: struct {
			F float64 `json:"f"`
		}{}},
		{Name: "a.e", Data: note{}, Personal: map[string]string{"nope": ""}},
	}})
	for _, want := range []string{
		"Dir is required", "Service", "QueueEvents", "RotateBytes", "Types[0].Name", "Types[1].Name",
		"a.b: data", "a.c: F", "a.d: f", "a.e: Personal",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Open() = %v, want mention of %q", err, want)
		}
	}
}

func TestDisabledAndNil(t *testing.T) { // AUD-29
	off, err := audit.Open(t.Context(), audit.Config{Disabled: true})
	if err != nil {
		t.Fatal(err)
	}
	for name, l := range map[string]*audit.Log{"disabled": off, "nil": nil} {
		e := audit.Event{Data: &note{}}
		allocs := testing.AllocsPerRun(100, func() {
			if _, err := l.Emit(t.Context(), e); err != nil {
				t.Errorf("%s: Emit() = %v", name, err)
			}
		})
		rc, err := l.Append(t.Context(), e)
		if allocs != 0 || err != nil || rc != (audit.Receipt{}) {
			t.Errorf("%s: %v allocs, Append() = %v, %v", name, allocs, rc, err)
		}
		if err := errors.Join(l.Flush(t.Context()), l.Healthy(), l.Close(t.Context())); err != nil || l.Stats().Records != 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCloseTwice(t *testing.T) { // AUD-27
	l := mustOpen(t, config(t.TempDir()+"/log"))
	mustClose(t, l)
	mustClose(t, l)
	if _, err := l.Emit(t.Context(), audit.Event{Data: note{}}); !errors.Is(err, audit.ErrClosed) {
		t.Errorf("Emit() after Close = %v", err)
	}
	if err := l.Healthy(); !errors.Is(err, audit.ErrClosed) {
		t.Errorf("Healthy() after Close = %v", err)
	}
}

// memory runs a test with a log over a fault file system in virtual time.
func memory(t *testing.T, change func(*audit.Config), do func(*testing.T, *audit.Log, *faultfs.FS)) {
	synctest.Test(t, func(t *testing.T) {
		fsys := faultfs.New()
		l := reopen(t, fsys, change)
		do(t, l, fsys)
		_ = l.Close(t.Context())
		synctest.Wait()
	})
}

func reopen(t testing.TB, fsys *faultfs.FS, change func(*audit.Config)) *audit.Log {
	t.Helper()
	c := config("/memory")
	if change != nil {
		change(&c)
	}
	l, err := audit.OpenFS(t.Context(), c, fsys)
	if err != nil {
		t.Fatalf("OpenFS() = %v", err)
	}
	return l
}

func TestIdleBatchSynced(t *testing.T) { // AUD-21; trap: interval looked at only on the next event
	memory(t, func(c *audit.Config) { c.Flush = audit.FlushBatched }, func(t *testing.T, l *audit.Log, _ *faultfs.FS) {
		before := l.Stats().Records
		if _, err := l.Emit(t.Context(), audit.Event{Data: note{}}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := l.Stats().Records; got != before {
			t.Errorf("synced at once: %d records", got)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if got := l.Stats().Records; got != before+1 {
			t.Errorf("after BatchDelay %d records, want %d", got, before+1)
		}
	})
}

func TestWaiterNeedsNoTimer(t *testing.T) { // AUD-21
	for _, mode := range []audit.FlushMode{audit.FlushImmediate, audit.FlushBatched, audit.FlushHybrid} {
		memory(t, func(c *audit.Config) { c.Flush = mode }, func(t *testing.T, l *audit.Log, _ *faultfs.FS) {
			start := time.Now()
			tk, err := l.Emit(t.Context(), audit.Event{Data: note{}})
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if _, err := tk.Wait(t.Context()); err != nil {
				t.Error(err)
			}
			mustAppend(t, l, audit.Event{Data: note{}})
			if err := l.Flush(t.Context()); err != nil || time.Since(start) != 0 {
				t.Errorf("mode %d: Flush() = %v, took %v", mode, err, time.Since(start))
			}
		})
	}
}

func TestHybridSyncsCritical(t *testing.T) { // AUD-21
	memory(t, func(c *audit.Config) { c.Flush = audit.FlushHybrid }, func(t *testing.T, l *audit.Log, _ *faultfs.FS) {
		before := l.Stats().Records
		_, _ = l.Emit(t.Context(), audit.Event{Data: note{}})
		synctest.Wait()
		if got := l.Stats().Records; got != before {
			t.Errorf("routine synced at once")
		}
		_, _ = l.Emit(t.Context(), audit.Event{Data: alarm{}})
		synctest.Wait()
		if got := l.Stats().Records; got != before+2 {
			t.Errorf("%d records after a critical event, want %d", got, before+2)
		}
	})
}
