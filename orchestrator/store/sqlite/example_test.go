package sqlite_test

import (
	"context"
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
