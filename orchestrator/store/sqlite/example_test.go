package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/store/sqlite"
)

// A task that was acknowledged is there after the store was closed and opened
// again, and the next term is a higher one.
func ExampleOpen() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	config := sqlite.Config{Path: filepath.Join(dir, "data", "tasks.db")}

	st, err := sqlite.Open(ctx, config)
	if err != nil {
		fmt.Println(err)
		return
	}
	term, _ := st.Lead(ctx, store.LeaseRequest{Holder: "local"})
	id, _ := store.ParseTaskID("0198f3a1-0000-7000-8000-000000000001")
	_, err = st.Submit(ctx, term.Epoch, []store.NewTask{{Record: store.Record{ID: id, Tenant: "default"}, Body: []byte("sealed")}})
	fmt.Println("term", term.Epoch, "stored:", err == nil, "closed:", st.Close() == nil)

	st, err = sqlite.Open(ctx, config)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer st.Close()
	term, _ = st.Lead(ctx, store.LeaseRequest{Holder: "local"})
	record, err := st.Task(ctx, id)
	fmt.Println("term", term.Epoch, record.State, err)
	// Output:
	// term 1 stored: true closed: true
	// term 2 queued <nil>
}

// A copy of a store in use, and why it does not lead by itself when it is put
// back: nodes have seen later terms, and what those accepted is not in it.
func ExampleStore_Backup() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	st, err := sqlite.Open(ctx, sqlite.Config{Path: filepath.Join(dir, "data", "tasks.db")})
	if err != nil {
		fmt.Println(err)
		return
	}
	backup := filepath.Join(dir, "data", "backup.db")
	fmt.Println("backup:", st.Backup(ctx, backup))
	seen, _ := st.Lead(ctx, store.LeaseRequest{Holder: "local"})
	fmt.Println("closed:", st.Close() == nil)

	st, err = sqlite.Open(ctx, sqlite.Config{Path: backup})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer st.Close()
	_, err = st.Lead(ctx, store.LeaseRequest{Holder: "local", Seen: seen.Epoch})
	fmt.Println("refused:", errors.Is(err, store.ErrRestored))
	term, err := st.Lead(ctx, store.LeaseRequest{Holder: "local", Seen: seen.Epoch, Force: true})
	fmt.Println("forced: term", term.Epoch, err)
	// Output:
	// backup: <nil>
	// closed: true
	// refused: true
	// forced: term 2 <nil>
}
