package store_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/llorch/llorch/orchestrator/store"
)

// A task from its acceptance to its end, and a leader that lost its term.
func Example() {
	ctx := context.Background()
	st := store.NewMemory()
	defer st.Close()

	term, _ := st.Lead(ctx, store.LeaseRequest{Holder: "replica-1"})
	id, _ := store.ParseTaskID("0198f3a1-0000-7000-8000-000000000001")
	task := store.NewTask{Record: store.Record{ID: id, Tenant: "default", Model: "llama"}, Body: []byte("sealed request")}

	stored, _ := st.Submit(ctx, term.Epoch, []store.NewTask{task})
	again, _ := st.Submit(ctx, term.Epoch, []store.NewTask{task})
	fmt.Println("seq", stored[0].Seq, "repeated:", again[0].Duplicate != nil)

	started, _ := st.Start(ctx, term.Epoch, []store.StartReq{{ID: id, Attempt: 1, Worker: "node/pool/r0"}})
	fmt.Printf("body: %s\n", started[0].Body)

	next, _ := st.Lead(ctx, store.LeaseRequest{Holder: "replica-2"})
	end := []store.Completion{{ID: id, Attempt: 1, State: store.Completed, Output: []byte("sealed answer")}}
	_, err := st.Complete(ctx, term.Epoch, end)
	fmt.Println("fenced:", errors.Is(err, store.ErrFenced))

	answers, err := st.Complete(ctx, next.Epoch, end)
	fmt.Println(answers, err)
	record, _ := st.Task(ctx, id)
	fmt.Println(record.State)
	// Output:
	// seq 1 repeated: true
	// body: sealed request
	// fenced: true
	// [<nil>] <nil>
	// completed
}
