// Package decisionlog records every step of the scheduler, plays a record back
// and compares it with what another policy would have decided.
//
// A segment is NDJSON (ORC-130). The first line has the configuration and the
// state before the first step; then comes one line per step with the event and its
// effects; a line {"gap":n} stands where n steps were lost; the last line has the
// SHA-256 of all bytes before it. A segment without that line was cut short by a
// crash. Segments hold no prompt, no output and no name of a person or tenant:
// the scheduler does not know any.
//
//	jq -c 'select(.fx) | .fx[] | objects | .assign | select(.) | [.ID, .Why.winner]' decisions-1-1.ndjson
package decisionlog

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/llorch/llorch/orchestrator/internal/sched"
	"github.com/llorch/llorch/orchestrator/placement"
)

// format is the version of the layout of the lines.
const format = 1

// maxLine bounds one line, in bytes: the state of 100,000 tasks has about 150 MB.
const maxLine = 512 << 20

// Conditions of Replay and Diff.
var (
	// ErrCoreVersion reports a log of a scheduler that decides otherwise.
	ErrCoreVersion = errors.New("decisionlog: written by another version of the core")
	// ErrScorerMissing reports a policy that names a custom scorer which is not here.
	ErrScorerMissing = errors.New("decisionlog: a custom scorer of the policy is missing")
	// ErrBroken reports bytes that the writer did not write.
	ErrBroken = errors.New("decisionlog: the log is damaged")
)

// Diverged reports the first step whose effects are not the recorded ones, or a
// segment that does not begin where the one before ended.
type Diverged struct {
	Line      int    // in the whole input, from 1
	Task      string // 32 hex digits; "" if no single task is concerned
	Want, Got string // JSON of the first effect that differs, "" for none; or digests of states
}

func (d *Diverged) Error() string {
	return fmt.Sprintf("decisionlog: line %d: the scheduler decides otherwise", d.Line)
}

// Cut says that the torn end of an older segment was removed (ORC-131).
type Cut struct {
	Segment string `json:"segment"`
	Bytes   int64  `json:"bytes"`
}

// header is the first line of a segment.
type header struct {
	Format  int              `json:"format"`
	Core    int              `json:"core"`
	Replica string           `json:"replica"`
	Epoch   uint64           `json:"epoch"`
	Origin  time.Time        `json:"origin"` // wall time of instant 0, for people
	Prev    string           `json:"prev"`   // SHA-256 of the segment that this one continues, "" = none
	Cut     []Cut            `json:"cut,omitempty"`
	Seed    uint64           `json:"seed"`
	Policy  placement.Policy `json:"policy"`
	Hash    string           `json:"policy_sha256"`
	Config  sched.Config     `json:"config"` // without scorers: they are code
	State   json.RawMessage  `json:"state"`
}

// line is any later line, and the format of a first one.
type line struct {
	Format int             `json:"format"`
	At     sched.Instant   `json:"at"`
	Ev     json.RawMessage `json:"ev"`
	Fx     json.RawMessage `json:"fx"`
	Gap    uint64          `json:"gap"`
	Sum    string          `json:"sha256"`
}

// appendEffects appends the effects of a step as a JSON array.
func appendEffects(dst []byte, fx []sched.Effect) ([]byte, error) {
	dst = append(dst, '[')
	for i, f := range fx {
		if i > 0 {
			dst = append(dst, ',')
		}
		var err error
		if dst, err = sched.AppendEffect(dst, f); err != nil {
			return dst, err
		}
	}
	return append(dst, ']'), nil
}

// appendStep appends the line of a step.
func appendStep(dst []byte, at sched.Instant, e sched.Event, fx []sched.Effect) ([]byte, error) {
	dst = fmt.Appendf(dst, `{"at":%d,"ev":`, at)
	dst, err := sched.AppendEvent(dst, e)
	if err != nil {
		return dst, err
	}
	if dst, err = appendEffects(append(dst, `,"fx":`...), fx); err != nil {
		return dst, err
	}
	return append(dst, "}\n"...), nil
}
