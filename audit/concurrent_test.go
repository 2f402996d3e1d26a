package audit_test

import (
	"sync"
	"testing"

	"github.com/llorch/llorch/audit"
)

func TestEmitConcurrentSafe(t *testing.T) { // AUD-19: order per goroutine, exact accounting
	dir := t.TempDir() + "/log"
	c := config(dir)
	c.Flush = audit.FlushHybrid
	l := mustOpen(t, c)
	const writers, each = 64, 20
	seqs := make([][]uint64, writers)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				var rc audit.Receipt
				var err error
				if i%4 == 0 {
					rc, err = l.Append(t.Context(), audit.Event{Data: alarm{N: uint64(i)}})
				} else if tk, e := l.Emit(t.Context(), audit.Event{Data: note{N: int64(i)}}); e != nil {
					err = e
				} else if i%4 == 1 {
					rc, err = tk.Wait(t.Context())
				}
				if err != nil {
					t.Error(err)
				}
				if rc.ID != "" {
					seqs[w] = append(seqs[w], rc.Seq)
				}
				_ = l.Stats()
				_ = l.Healthy()
			}
		})
	}
	wg.Wait()
	mustClose(t, l)
	for w, s := range seqs {
		for i := 1; i < len(s); i++ {
			if s[i] <= s[i-1] {
				t.Errorf("writer %d: record %d after %d", w, s[i], s[i-1])
			}
		}
	}
	s := l.Stats()
	if rep := mustVerify(t, dir); rep.Records != writers*each+2 || s.Records != rep.Records || s.NextSeq != rep.Records ||
		s.Emitted["app.alarm"]+s.Emitted["app.note"] != writers*each || s.Syncs == 0 || s.QueueEvents != 0 || s.QueueBytes != 0 {
		t.Errorf("report %+v, stats %+v", rep, s)
	}
}
