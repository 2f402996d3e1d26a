// Package storetest checks that a [store.Store] keeps its contract, for every
// implementation, ours or yours.
//
// Call [Run] from a test of the implementation. Each sentence of the contract is
// a named subtest; a rapid model test walks the store beside a small reference
// and reopens it in between.
package storetest

import (
	"testing"

	"github.com/llorch/llorch/orchestrator/store"
)

// Run checks a store. Each call of open returns a new, empty one, which the
// suite closes; open may use t for directories and clean-up.
func Run(t *testing.T, open func(t testing.TB) store.Store, caps Caps) {
	t.Helper()
	if caps.Durable && caps.Reopen == nil {
		t.Fatal("storetest: a durable store needs Caps.Reopen")
	}
	s := suite{open: open, caps: caps}
	for _, c := range checks() {
		t.Run(c.name, func(t *testing.T) {
			if c.needs != nil && !c.needs(caps) {
				t.Skip("the store does not claim this")
			}
			c.run(t, s)
		})
	}
}

// check is one sentence of the contract.
type check struct {
	name  string
	needs func(Caps) bool // nil: every store
	run   func(testing.TB, suite)
}

func checks() []check {
	reopens := func(c Caps) bool { return c.Reopen != nil }
	leaves := func(c Caps) bool { return c.Away != nil }
	slows := func(c Caps) bool { return c.Slow != nil }
	return []check{
		{"ORC-640/durable is what it claims", nil, claimsDurability},
		{"ORC-640/acknowledged writes are there after reopening", reopens, survivesReopening},
		{"ORC-640/counters go on after reopening", reopens, countersSurvive},
		{"ORC-640/submit is idempotent by id", nil, submitTwice},
		{"ORC-640/an idempotency key names one task of a tenant", nil, idempotencyKeys},
		{"ORC-640/start is idempotent by attempt", nil, startTwice},
		{"ORC-640/mark is idempotent by attempt", nil, markTwice},
		{"ORC-640/complete is idempotent by attempt, state and code", nil, completeTwice},
		{"ORC-640/cancel is idempotent", nil, cancelTwice},
		{"ORC-641/seq rises in batch order", nil, seqRises},
		{"ORC-641/a bad item fails alone", nil, badItemFailsAlone},
		{"ORC-641/a later item sees the earlier ones", nil, batchSeesItself},
		{"ORC-641/batches of 0, 1 and 1024", nil, batchSizes},
		{"ORC-641/a term is above every earlier one", nil, termsRise},
		{"ORC-641/an old copy does not lead unless it is forced to", nil, restored},
		{"ORC-641/a void term writes nothing", nil, voidTerm},
		{"ORC-101/only the moves of the table", nil, movesOfTheTable},
		{"ORC-642/a task reads back as it was submitted", nil, readsBack},
		{"ORC-642/a final task is stored as ended", nil, finalTask},
		{"ORC-642/nothing is shared with the caller", nil, nothingShared},
		{"ORC-642/a page holds what the filter selects", nil, filters},
		{"ORC-642/pages meet without gap or overlap", nil, paging},
		{"ORC-642/a scan reads so much and goes on", nil, scans},
		{"ORC-643/body until the end, output after it", nil, bodyAndOutput},
		{"ORC-645/arguments out of range", nil, badArguments},
		{"ORC-645/unknown tasks are ErrNotFound", nil, unknownTasks},
		{"ORC-645/a context that ended writes nothing", nil, endedContext},
		{"ORC-645/a context that ends meanwhile leaves all or nothing", nil, racingContext},
		{"ORC-645/a context that ends at any look leaves all or nothing", nil, everyLook},
		{"ORC-645/after close every call is ErrClosed", nil, closed},
		{"ORC-640/documents compare versions", nil, docVersions},
		{"ORC-640/versions never come back", nil, docVersionsRise},
		{"ORC-640/documents come by key", nil, docsByKey},
		{"ORC-843/purge takes ended tasks, oldest first", nil, purge},
		{"ORC-644/erase takes what names the person and no more", nil, eraseTakes},
		{"ORC-644/erase deletes the person's documents and no others", nil, eraseDocs},
		{"ORC-644/erase of a person with a live task changes nothing", nil, eraseLive},
		{"ORC-644/erase is idempotent and counts what was left", nil, eraseTwice},
		{"ORC-644/an erasure is there after reopening", reopens, erasureSurvives},
		{"ORC-843/purge of outputs takes the oldest and leaves the records", nil, purgeOutputs},
		{"ORC-655/32 clients ConcurrentSafe", nil, concurrentClients},
		{"ORC-655/what is refused while the storage is away can be repeated", leaves, away},
		{"ORC-655/close waits for writes in flight", reopens, closeWaits},
		{"ORC-655/64 callers share commits", slows, groupCommit},
		{"ORC-655/model", nil, model},
	}
}
