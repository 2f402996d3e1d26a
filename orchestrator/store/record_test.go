package store_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/llorch/llorch/orchestrator/store"
)

func TestTaskID(t *testing.T) {
	const text = "0198f3a1-0000-7000-8000-00000000abcd"
	id, err := store.ParseTaskID(text)
	if err != nil || id.String() != text {
		t.Fatalf("ParseTaskID() = %v, %v, want %s", id, err, text)
	}
	if upper, err := store.ParseTaskID(strings.ToUpper(text)); err != nil || upper != id {
		t.Errorf("ParseTaskID(upper case) = %v, %v", upper, err)
	}
	b, err := json.Marshal(map[string]store.TaskID{"id": id})
	if err != nil || string(b) != `{"id":"`+text+`"}` {
		t.Errorf("Marshal() = %s, %v", b, err)
	}
	var back map[string]store.TaskID
	if err := json.Unmarshal(b, &back); err != nil || back["id"] != id {
		t.Errorf("Unmarshal() = %v, %v", back, err)
	}
	for _, bad := range []string{"", text[1:], text + "0", strings.ReplaceAll(text, "-", "0"), "secret-x" + text[8:], strings.Replace(text, "a", "g", 1)} {
		if _, err := store.ParseTaskID(bad); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("ParseTaskID(%d bytes) = %v, want an error without the input", len(bad), err)
		}
	}
}

func FuzzParseTaskID(f *testing.F) {
	f.Add("0198f3a1-0000-7000-8000-00000000abcd")
	f.Add("0198F3A1-0000-7000-8000-00000000ABCD")
	f.Add("00000000-0000-0000-0000-000000000000")
	f.Add("0198f3a1+0000-7000-8000-00000000abcd")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		id, err := store.ParseTaskID(text)
		if err != nil {
			if id != (store.TaskID{}) {
				t.Error("an id beside an error")
			}
			return
		}
		if id.String() != strings.ToLower(text) {
			t.Errorf("String() = %s", id)
		}
	})
}

// TestTransitions is ORC-101: the table says what the text of the spec says.
func TestTransitions(t *testing.T) {
	allowed := map[store.State][]store.State{
		store.Queued:     {store.Running, store.Failed, store.Cancelled},
		store.Running:    {store.Running, store.Cancelling, store.Completed, store.Failed},
		store.Cancelling: {store.Cancelled, store.Completed, store.Failed},
		store.Completed:  {store.Deleted},
		store.Failed:     {store.Deleted},
		store.Cancelled:  {store.Deleted},
	}
	for _, from := range append(store.States(), "unheard of") {
		for _, to := range append(store.States(), "unheard of") {
			if got, want := store.CanMove(from, to), slices.Contains(allowed[from], to); got != want {
				t.Errorf("CanMove(%s, %s) = %t, want %t", from, to, got, want)
			}
		}
		if got, want := from.Terminal(), slices.Contains([]store.State{store.Completed, store.Failed, store.Cancelled, store.Deleted}, from); got != want {
			t.Errorf("%s.Terminal() = %t, want %t", from, got, want)
		}
	}
}
