package audit

import "time"

// Reasons of a gap record.
const (
	gapQueueFull = "queue_full" // no room
	gapDiskLow   = "disk_low"   // free space below MinFree
	gapRefused   = "refused"    // critical and RefuseWhenFull
	gapIOError   = "io_error"   // the log could not write
	gapShutdown  = "shutdown"   // was waiting for room when the log was closed
	gapTornTail  = "torn_tail"  // unfinished lines that a crash of the previous run left
)

// gap counts what was emitted and not recorded, for one reason.
type gap struct {
	ByType    map[string]uint64 `json:"by_type"`
	Dropped   uint64            `json:"dropped"`
	EmitFirst uint64            `json:"emit_first"`
	EmitLast  uint64            `json:"emit_last"`
	FirstAt   time.Time         `json:"first_at"`
	LastAt    time.Time         `json:"last_at"`
}

// gaps holds the gaps that no record tells of yet, by reason.
type gaps map[string]*gap

const gapOther = "other" // where types beyond maxList are counted

func (g gaps) add(reason, typ string, emit uint64, at time.Time) {
	p := g[reason]
	if p == nil {
		p = &gap{ByType: make(map[string]uint64), EmitFirst: emit, FirstAt: at, LastAt: at}
		g[reason] = p
	}
	if _, known := p.ByType[typ]; !known && len(p.ByType) >= maxList-1 {
		typ = gapOther
	}
	p.ByType[typ]++
	p.Dropped++
	p.EmitLast = emit
	if at.After(p.LastAt) {
		p.LastAt = at
	}
}
