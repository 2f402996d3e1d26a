package poolcore

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestOperations: 256 are remembered, each for an hour after its end; work is
// queued, cancelled, and reports.
func TestOperations(t *testing.T) {
	events := make(chan Event, 2000)
	hosted(t, &fakeCrew{observe: func(e Event) { events <- e }}, func(t *testing.T, h *Host) {
		op, err := h.Preload(t.Context(), demo("p"))
		if err != nil || op.Wait(t.Context()) != nil {
			t.Fatal(err)
		}
		if got, ok := h.Operation(op.ID); !ok || got != op || op.Kind != "preload" || op.Pool != "p" {
			t.Errorf("Operation(%s) = %v, %v", op.ID, got, ok)
		}
		time.Sleep(time.Hour + time.Second)
		if _, ok := h.Operation(op.ID); ok {
			t.Error("an operation is kept for more than an hour")
		}
		work := func(ctx context.Context, o *Operation) (any, error) {
			o.Report("downloading", Progress{Done: 1, Total: 2})
			<-ctx.Done()
			return nil, ctx.Err()
		}
		var ops []*Operation
		for range maxOperations {
			op, err := h.Operate("fetch", "", work)
			if err != nil {
				t.Fatal(err)
			}
			ops = append(ops, op)
		}
		if _, err := h.Operate("fetch", "", work); !errors.Is(err, PoolBusy) {
			t.Errorf("one more = %v", err)
		}
		synctest.Wait()
		states := map[string]int{}
		for _, o := range ops {
			states[o.State()]++
		}
		if states["running"] != atOnce || states["queued"] != maxOperations-atOnce {
			t.Errorf("states = %v", states)
		}
		running := ops[slices.IndexFunc(ops, func(o *Operation) bool { return o.State() == "running" })]
		if running.Phase() != "downloading" || running.Progress().Total != 2 {
			t.Errorf("phase %q, %+v", running.Phase(), running.Progress())
		}
		for _, o := range ops {
			o.Cancel()
		}
		for _, o := range ops {
			if err := o.Wait(t.Context()); !errors.Is(err, Cancelled) || o.State() != "cancelled" {
				t.Errorf("Wait = %v, %s", err, o.State())
			}
		}
		done, err := h.Operate("verify", "p", func(context.Context, *Operation) (any, error) { return 7, nil })
		if err != nil || done.Wait(t.Context()) != nil || done.Result() != 7 {
			t.Errorf("%v, result %v", err, done.Result())
		}
		if _, ok := h.Operation(ops[0].ID); ok {
			t.Error("more than 256 operations are kept")
		}
	})
	close(events)
	fetches := 0
	for e := range events {
		if e.Kind == "fetch" && e.Detail == string(Cancelled) {
			fetches++
		}
	}
	if fetches == 0 {
		t.Error("PCO-78: no event of a fetch")
	}
}
