package sqlite_test

import (
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/llorch/llorch/orchestrator/store"
)

// marked is an ended task in which everything personal is spelled out.
func marked(n int, who store.SubjectRef, mark string) store.NewTask {
	q := crashTask(n)
	q.Record.Subject, q.Record.Session, q.Record.IdemKey = who, mark+"-session", fmt.Sprint(mark, "-idem-", n)
	q.Record.Meta.PromptSHA256 = mark + "-digest"
	copy(q.Record.BodyHash[:], mark+"-body-hash")
	q.Final = &store.Completion{State: store.Failed, Output: []byte(strings.Repeat(mark+"-output", 1+n%700))}
	return q
}

// files returns what lies beside path, as text.
func files(t *testing.T, path string) map[string]string {
	t.Helper()
	names, err := filepath.Glob(path + "*")
	if err != nil || len(names) < 2 {
		t.Fatalf("Glob() = %q, %v", names, err)
	}
	out := make(map[string]string)
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		out[filepath.Base(name)] = string(text)
	}
	return out
}

// TestErasedIsGone is ORC-644 and ORC-650: after an erasure nothing of the person
// is in any file, although other people's rows lie between, and theirs stays.
func TestErasedIsGone(t *testing.T) {
	const mine, yours = "Xq7marker", "Zk9other"
	path := fresh(t)
	s, e := begin(t, path)
	me, you := store.SubjectRef([]byte(mine+"-subj--")), store.SubjectRef{1}
	var batch []store.NewTask
	for n := range 900 {
		who, mark := me, mine
		if n%3 == 0 {
			who, mark = you, yours
		}
		batch = append(batch, marked(n, who, mark))
	}
	submit(t, s, e, batch...)
	for i := range 40 {
		key := fmt.Sprintf("%s/%s-%d", hex.EncodeToString(me[:]), mine, i)
		if _, err := s.PutDoc(t.Context(), store.Doc{Kind: store.KindSession, Key: key, Data: []byte(strings.Repeat(mine, 100*i))}, 0); err != nil {
			t.Fatal(err)
		}
	}
	count := func(mark string) (n int) {
		for _, text := range files(t, path) {
			n += strings.Count(text, mark)
		}
		return n
	}
	if count(mine) == 0 || count(yours) == 0 {
		t.Fatal("the markers are in no file before the erasure")
	}
	got, err := s.Erase(t.Context(), e, me)
	if want := (store.Erased{Tasks: 600, Outputs: 600, Documents: 40}); err != nil || got != want {
		t.Errorf("Erase() = %+v, %v, want %+v", got, err, want)
	}
	for name, text := range files(t, path) {
		if n := strings.Count(text, mine); n > 0 {
			i := strings.Index(text, mine)
			t.Errorf("%s holds erased content %d times, first %q", name, n, text[max(0, i-20):i+40])
		}
		if n := strings.Count(text, hex.EncodeToString(me[:])); n > 0 {
			t.Errorf("%s holds the person's reference %d times", name, n)
		}
	}
	if count(yours) == 0 {
		t.Error("another person's content is gone")
	}
}

// TestEraseLetsOthersWrite: an erasure goes through a large file in steps, and who
// writes meanwhile waits for one of them only.
func TestEraseLetsOthersWrite(t *testing.T) {
	s, e := begin(t, fresh(t))
	var batch []store.NewTask
	for n := range 2000 {
		batch = append(batch, marked(n, store.SubjectRef{byte(1 + n%2)}, "m"))
	}
	submit(t, s, e, batch...)
	steps, done := 0, make(chan struct{})
	s.BeforeCommit(func() error {
		switch steps++; steps {
		case 5: // four for the person's tasks, then those that overwrite
			go func() {
				defer close(done)
				if _, err := s.Submit(t.Context(), e, []store.NewTask{marked(1000, store.SubjectRef{3}, "m")}); err != nil {
					t.Error(err)
				}
			}()
			await(t, "the other writer", func() bool { return s.Waiting() > 0 })
		case 8:
			<-done // long answered
		}
		return nil
	})
	if _, err := s.Erase(t.Context(), e, store.SubjectRef{1}); err != nil {
		t.Fatal(err)
	}
	if <-done; steps < 9 {
		t.Errorf("the erasure had %d steps, want many", steps)
	}
}

// TestTruncateWaitsForNobody: a log that a long read keeps from being emptied does
// not hold writers up, though the writer tries again and again.
func TestTruncateWaitsForNobody(t *testing.T) {
	path := fresh(t)
	s, e := begin(t, path)
	submit(t, s, e, marked(1, store.SubjectRef{1}, "m"))
	s.Patience(0)
	defer read(t, path)()
	began := time.Now()
	if _, err := s.Erase(t.Context(), e, store.SubjectRef{1}); !errors.Is(err, store.ErrUnknown) {
		t.Errorf("Erase under a reader = %v, want ErrUnknown", err)
	}
	submit(t, s, e, crashTask(2))
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("a writer waited %v beside a reader, want no wait of the engine's 5 s", took)
	}
}

// TestEraseSteps: a task that begins between two steps of an erasure stops it,
// and the next call finishes the work.
func TestEraseSteps(t *testing.T) {
	s, e := begin(t, fresh(t))
	who := store.SubjectRef{1}
	var batch []store.NewTask
	for n := range 400 {
		batch = append(batch, marked(n, who, "m"))
	}
	submit(t, s, e, batch...)
	late, steps := marked(1000, who, "m"), 0
	late.Final = nil
	done := make(chan error, 1)
	s.BeforeCommit(func() error {
		if steps++; steps == 1 {
			go func() {
				_, err := s.Submit(t.Context(), e, []store.NewTask{late})
				done <- err
			}()
			await(t, "the late task", func() bool { return s.Waiting() == 1 })
		}
		return nil
	})
	_, err := s.Erase(t.Context(), e, who)
	if !errors.Is(err, store.ErrTransition) {
		t.Errorf("Erase() = %v, want ErrTransition", err)
	}
	if err := <-done; err != nil {
		t.Fatalf("Submit() = %v", err)
	}
	if _, err := s.Cancel(t.Context(), e, []store.CancelReq{{ID: crashID(1000)}}); err != nil {
		t.Fatal(err)
	}
	got, err := s.Erase(t.Context(), e, who)
	if want := (store.Erased{Tasks: 400 - 256 + 1, Outputs: 400 - 256}); err != nil || got != want {
		t.Errorf("Erase() again = %+v, %v, want %+v", got, err, want)
	}
}

// TestPurgeOutputsPlan: old outputs are found by their own index, not by reading the history.
func TestPurgeOutputsPlan(t *testing.T) {
	s, e := begin(t, fresh(t))
	submit(t, s, e, marked(1, store.SubjectRef{1}, "m"))
	plan, err := s.PlanOf(t.Context(), "SELECT seq FROM body WHERE ended < ? ORDER BY ended, seq LIMIT ?", time.Now().UnixMicro(), 10)
	if err != nil || !strings.Contains(plan, "COVERING INDEX body_ended") {
		t.Errorf("plan = %q, %v, want the index on outputs", plan, err)
	}
}

// TestEraseUnderReader: while somebody reads an old state the log can not be
// emptied; Erase says so, and the writer empties it as soon as nobody does.
func TestEraseUnderReader(t *testing.T) {
	path := fresh(t)
	s, e := begin(t, path)
	who := store.SubjectRef{1}
	submit(t, s, e, marked(1, who, "m"))
	if err := s.Impatient(); err != nil {
		t.Fatal(err)
	}
	leave := read(t, path)
	if _, err := s.Erase(t.Context(), e, who); !errors.Is(err, store.ErrUnknown) {
		t.Errorf("Erase under a reader = %v, want ErrUnknown", err)
	}
	if r, err := s.Task(t.Context(), crashID(1)); err != nil || r.Subject != (store.SubjectRef{}) {
		t.Errorf("Task() = %+v, %v, want it erased", r, err)
	}
	if logSize(t, path) == 0 {
		t.Error("the log is empty although a reader needs it")
	}
	leave()
	await(t, "the empty log", func() bool { return logSize(t, path) == 0 })
	if got, err := s.Erase(t.Context(), e, who); err != nil || got != (store.Erased{}) {
		t.Errorf("Erase() again = %+v, %v, want nothing left", got, err)
	}
}

// TestIdleLogIsEmptied is ORC-650: a log that outgrew its bound under a long read
// is emptied when nothing is written for a while.
func TestIdleLogIsEmptied(t *testing.T) {
	path := fresh(t)
	s, e := begin(t, path)
	submit(t, s, e, crashTask(0))
	leave := read(t, path)
	for n := range 5 {
		q := crashTask(1 + n)
		q.Body = make([]byte, store.MaxBody)
		submit(t, s, e, q)
	}
	if size := logSize(t, path); size < 64<<20 {
		t.Errorf("the log has %d bytes under a reader, want all that was written", size)
	}
	leave()
	await(t, "the empty log", func() bool { return logSize(t, path) == 0 })
}

// read begins a read of the file by somebody else, who ends it with leave.
func read(t *testing.T, path string) (leave func()) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if err := tx.QueryRowContext(t.Context(), "SELECT count(*) FROM task").Scan(&n); err != nil || n != 1 {
		t.Fatalf("another reader sees %d tasks, %v", n, err)
	}
	return func() {
		if err := errors.Join(tx.Rollback(), db.Close()); err != nil {
			t.Errorf("end of the reader: %v", err)
		}
	}
}

func logSize(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}
