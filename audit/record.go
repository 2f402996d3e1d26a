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

// line mirrors the stored members in their stored order.
type line struct {
	Actor  lineActor       `json:"actor"`
	At     string          `json:"at"`
	CID    string          `json:"cid,omitzero"`
	Class  string          `json:"class"`
	Clk    int64           `json:"clk,omitzero"`
	Data   json.RawMessage `json:"data"`
	Emit   uint64          `json:"emit"`
	Flags  []string        `json:"flags,omitzero"`
	ID     string          `json:"id"`
	Out    string          `json:"out"`
	Prev   string          `json:"prev"`
	Reason string          `json:"reason,omitzero"`
	Res    *lineResource   `json:"res,omitzero"`
	Seq    uint64          `json:"seq"`
	Span   string          `json:"span,omitzero"`
	Svc    string          `json:"svc"`
	Trace  string          `json:"trace,omitzero"`
	Type   string          `json:"type"`
	V      int             `json:"v"`
}

type lineActor struct {
	Auth string `json:"auth,omitzero"`
	ID   string `json:"id,omitzero"`
	IP   string `json:"ip,omitzero"`
	Kind string `json:"kind"`
	SID  string `json:"sid,omitzero"`
}

type lineResource struct {
	ID     string `json:"id"`
	Kind   string `json:"kind"`
	Parent string `json:"parent,omitzero"`
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
			Actor: Actor{Kind: l.Actor.Kind, ID: l.Actor.ID, Auth: l.Actor.Auth, Session: l.Actor.SID},
		},
	}
	if l.Res != nil {
		r.Event.Resource = Resource{Kind: l.Res.Kind, ID: l.Res.ID, Parent: l.Res.Parent}
	}
	return r, r.fill(&l)
}

// fill parses the members that have a form of their own.
func (r *Record) fill(l *line) error {
	bad := func(member string) error { return fmt.Errorf("audit: member %s of the record is malformed", member) }
	var err error
	if r.At, err = parseTime(l.At); err != nil {
		return bad("at")
	}
	if r.Prev, err = parseHash(l.Prev); err != nil {
		return bad("prev")
	}
	var ok bool
	if r.Event.Outcome, ok = parseOutcome(l.Out); !ok {
		return bad("out")
	}
	switch l.Class {
	case "critical":
		r.Class = Critical
	case "routine":
	default:
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
	switch {
	case l.V != formatVersion:
		return bad("v")
	case l.Emit == 0:
		return bad("emit")
	case l.Type == "":
		return bad("type")
	case len(l.Data) == 0 || l.Data[0] != '{':
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
