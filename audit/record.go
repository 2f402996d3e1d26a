package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Record is a line of the log, read back. Its texts are in their escaped form;
// [Unescape] restores them.
type Record struct {
	Seq     uint64
	ID      string // UUIDv7
	At      time.Time
	Class   Class
	Service string
	Emit    uint64 // number of the event within its run, from 1
	Event   Event  // Data is a json.RawMessage
	Flags   []string
	Prev    [32]byte // hash of the line before; zero at Seq 0
	Hash    [32]byte // SHA-256 of the stored bytes with LF: the Prev of the next line
	Raw     []byte   // the stored bytes without LF
}

// line mirrors the stored members, save those of seal.
type line struct {
	lineHead
	Actor lineActor `json:"actor"`
	CID   string    `json:"cid"`
	Class string    `json:"class"`
	Flags []string  `json:"flags"`
	ID    string    `json:"id"`
	Out   string    `json:"out"`
	Res   Resource  `json:"res"` // members match whatever their case
	Span  string    `json:"span"`
	Svc   string    `json:"svc"`
	Trace string    `json:"trace"`
}

type lineActor struct {
	Auth string `json:"auth"`
	ID   string `json:"id"`
	IP   string `json:"ip"`
	Kind string `json:"kind"`
	SID  string `json:"sid"`
}

// ParseRecord reads one line, with or without its LF. It checks the form of
// the record, not the chain. Members that it does not know are kept in Raw. No
// error holds content of the line.
func ParseRecord(stored []byte) (Record, error) {
	raw := bytes.TrimSuffix(stored, []byte("\n"))
	if len(raw) >= maxLine {
		return Record{}, errors.New("audit: line is too long")
	}
	var l line
	if err := json.Unmarshal(raw, &l); err != nil {
		return Record{}, errors.New("audit: line is not a record in JSON")
	}
	r := Record{
		Seq: l.Seq, ID: l.ID, Service: l.Svc, Emit: l.Emit, Flags: l.Flags, Raw: bytes.Clone(raw), Hash: hashLine(raw),
		Event: Event{
			Type: l.Type, Reason: l.Reason, Correlation: l.CID, TraceID: l.Trace, SpanID: l.Span, Data: l.Data,
			Resource: l.Res, Actor: Actor{Kind: l.Actor.Kind, ID: l.Actor.ID, Auth: l.Actor.Auth, Session: l.Actor.SID},
		},
	}
	return r, r.fill(&l)
}

// fill parses the members that have a form of their own.
func (r *Record) fill(l *line) error {
	bad := func(member string) error { return fmt.Errorf("audit: member %s of the record is malformed", member) }
	var want string
	if r.At, r.Prev, want = l.check(); want != "" {
		return fmt.Errorf("audit: line is not %s", want)
	}
	var known bool
	if r.Event.Outcome, known = parseOutcome(l.Out); !known {
		return bad("out")
	}
	if r.Class = Routine; l.Class == Critical.String() {
		r.Class = Critical
	}
	if l.Class != r.Class.String() {
		return bad("class")
	}
	if l.Actor.IP != "" {
		ip, err := Unescape(l.Actor.IP)
		if err == nil {
			r.Event.Actor.IP, err = netip.ParseAddr(ip)
		}
		if err != nil {
			return bad("actor.ip")
		}
	}
	if len(l.Data) == 0 || l.Data[0] != '{' {
		return bad("data")
	}
	return nil
}

func parseTime(s string) (time.Time, error) {
	if len(s) != len(timeForm) {
		return time.Time{}, errors.New("audit: a time has 30 characters")
	}
	return time.Parse(timeForm, s)
}

// hashLine is the chain hash of a line given without its LF.
func hashLine(raw []byte) (sum [32]byte) {
	h := sha256.New()
	h.Write(raw)
	h.Write([]byte{'\n'})
	h.Sum(sum[:0])
	return sum
}
