package audit

import "time"

// Types that the log writes about itself.
const (
	typeStarted = "audit.started"
	typeStopped = "audit.stopped"
	typeRotated = "audit.rotated"
	typeGap     = "audit.gap"
)

// Reasons of audit.rotated.
const (
	rotateDay      = "day"
	rotateSize     = "size"
	rotateError    = "write_error"   // the old file may hold more than prev_bytes
	rotateReplaced = "file_replaced" // the old file was deleted or exchanged
)

// started opens a run.
type started struct {
	Host      string `json:"host"`
	Key       string `json:"key,omitzero"` // id of the signing key, if the log has one
	Origin    string `json:"origin"`
	PID       uint32 `json:"pid"`
	PrevClean bool   `json:"prev_clean"` // the previous run ended with audit.stopped, or there was none
	Run       string `json:"run"`        // UUIDv7
	Torn      torn   `json:"torn,omitzero"`
	Version   string `json:"version"`
}

// torn tells what a crash left and recovery moved to quarantine/.
type torn struct {
	Bytes  uint64 `json:"bytes"`
	File   string `json:"file"`
	Offset uint64 `json:"offset"`
	SHA256 string `json:"sha256"`
}

// stopped ends a clean run: emitted = records + dropped, this record included.
type stopped struct {
	Dropped uint64 `json:"dropped"`
	Emitted uint64 `json:"emitted"`
	Records uint64 `json:"records"`
	Run     string `json:"run"`
}

// rotated begins a file and seals the one before.
type rotated struct {
	PrevBytes    uint64 `json:"prev_bytes"`
	PrevFile     string `json:"prev_file"`
	PrevFirstSeq uint64 `json:"prev_first_seq"`
	PrevRecords  uint64 `json:"prev_records"`
	PrevSHA256   string `json:"prev_sha256"`
	What         string `json:"what"`
}

const rotatedFile = "file" // the only value of rotated.What

// ownTypes declares what the log writes about itself, for its own use.
type ownTypes map[string]*declared

func newOwnTypes() ownTypes {
	o := make(ownTypes)
	for name, data := range map[string]any{
		typeStarted: started{}, typeStopped: stopped{}, typeRotated: rotated{}, typeGap: gap{},
	} {
		d, err := declare(TypeInfo{Name: name, Class: Critical, Data: data})
		if err != nil {
			panic("audit: internal error: " + err.Error())
		}
		o[name] = d
	}
	return o
}

// record makes a record of the log's own, which has nothing to refuse.
func (w *writer) record(typ, reason string, data any) *entry {
	e, err := newEntry(w.own[typ], &Event{Type: typ, Reason: reason, Data: data}, w.cfg.Service, time.Now())
	if err != nil {
		panic("audit: internal error: " + err.Error())
	}
	return e
}
