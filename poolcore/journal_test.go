package poolcore

import (
	"path/filepath"
	"testing"
)

// TestJournalIsThereBeforeThePhase (PCO-47): what was journalled is what the next
// run reads; what is not a journal of its pool is dropped.
func TestJournalIsThereBeforeThePhase(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	c, release, err := openCrew(Config{NodeID: "n", StateDir: dir}.withDefaults())
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	j := reloadJournal{Pool: "p", From: PoolConfig{ID: "p", Ctx: 1}, To: PoolConfig{ID: "p", Ctx: 2}, Phase: "draining"}
	if err := c.journal("p", &j); err != nil {
		t.Fatal(err)
	}
	if err := c.files.write("reload/q.json", []byte(`{"pool":"p"}`)); err != nil {
		t.Fatal(err)
	}
	got := c.journals()
	if len(got) != 1 || got[0].Phase != "draining" || !got[0].From.same(j.From) || !got[0].To.same(j.To) {
		t.Errorf("journals = %+v", got)
	}
	for range 2 {
		if err := c.journal("p", nil); err != nil {
			t.Fatal(err)
		}
	}
	if names, err := c.files.names(reloadDir); err != nil || len(names) != 0 {
		t.Errorf("left: %v, %v", names, err)
	}
}
