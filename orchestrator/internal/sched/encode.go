package sched

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/queue"
)

// Version numbers the behaviour of the core: a change that lets the same events
// have other effects raises it, and logs of other versions do not replay.
const Version = 2

// Ref stands for a person or a session without spelling it (ORC-123).
type Ref [16]byte

// MarshalText writes 32 hex digits.
func (r Ref) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, r[:]), nil }

// UnmarshalText reads 32 hex digits.
func (r *Ref) UnmarshalText(b []byte) error { return (*queue.Tenant)(r).UnmarshalText(b) }

// errKind never echoes its input.
var errKind = errors.New("sched: not an event or effect of the closed list")

// eventKinds is the closed list of events (ORC-121); names are those of the types.
var eventKinds = [...]struct {
	name   string
	decode func([]byte) (Event, error)
}{
	{"submit", eventAs[Submit]},
	{"persisted", eventAs[Persisted]},
	{"withdrawn", eventAs[Withdrawn]},
	{"recovered", eventAs[Recovered]},
	{"workers", eventAs[Workers]},
	{"finished", eventAs[Finished]},
	{"cancel", eventAs[Cancel]},
	{"cancelall", eventAs[CancelAll]},
	{"tenant", eventAs[Tenant]},
	{"policy", eventAs[Policy]},
	{"probed", eventAs[Probed]},
	{"loading", eventAs[Loading]},
	{"progress", eventAs[Progress]},
	{"tick", eventAs[Tick]},
	{"refuse", eventAs[Refuse]},
	{"cut", eventAs[Cut]},
}

// effectKinds is the closed list of effects; those with a decoder are written in
// full, the others by name (ORC-130).
var effectKinds = [...]struct {
	name   string
	decode func([]byte) (Effect, error)
}{
	{"assign", decodeAssign},
	{"reject", effectAs[Reject]},
	{"evict", effectAs[Evict]},
	{"terminal", effectAs[Terminal]},
	{"load", decodeLoad},
	{"admit", nil},
	{"queued", nil},
	{"retry", nil},
	{"stoprun", nil},
	{"leave", nil},
	{"probe", nil},
	{"note", nil},
	{"settimer", nil},
}

func eventAs[E Event](b []byte) (Event, error) {
	var e E
	err := json.Unmarshal(b, &e)
	return e, err
}

func effectAs[E Effect](b []byte) (Effect, error) {
	var e E
	err := json.Unmarshal(b, &e)
	return e, err
}

// kindOf is the name of the type in lower case.
func kindOf(v any) string { return strings.ToLower(strings.TrimPrefix(fmt.Sprintf("%T", v), "sched.")) }

// tagged appends {"name":value}.
func tagged(dst []byte, name string, v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return dst, err
	}
	dst = append(append(dst, `{"`...), name...)
	return append(append(append(dst, `":`...), b...), '}'), nil
}

// untag splits {"name":value}, as tagged wrote it.
func untag(b []byte) (name string, value []byte, ok bool) {
	b, open := bytes.CutPrefix(b, []byte(`{"`))
	b, closed := bytes.CutSuffix(b, []byte("}"))
	n, value, found := bytes.Cut(b, []byte(`":`))
	return string(n), value, open && closed && found
}

// AppendEvent appends an event as tagged JSON, such as {"persisted":{"ID":"…"}}.
func AppendEvent(dst []byte, e Event) ([]byte, error) { return tagged(dst, kindOf(e), e) }

// DecodeEvent reads what [AppendEvent] wrote.
func DecodeEvent(b []byte) (Event, error) {
	name, value, ok := untag(b)
	for _, k := range eventKinds {
		if ok && k.name == name {
			return k.decode(value)
		}
	}
	return nil, errKind
}

// AppendEffect appends an effect as JSON: in full as {"terminal":{…}}, or by name
// as "queued". Of a worker only the key is written: its facts came by an event.
func AppendEffect(dst []byte, e Effect) ([]byte, error) {
	switch e := e.(type) {
	case Assign:
		return tagged(dst, "assign", assigned{e.ID, e.Attempt, e.Worker.Key, e.Warmup, e.Why})
	case Load:
		return tagged(dst, "load", loaded{e.Worker.Key, e.Model, e.Evict})
	}
	name := kindOf(e)
	for _, k := range effectKinds {
		if k.name == name && k.decode != nil {
			return tagged(dst, name, e)
		}
	}
	return append(append(append(dst, '"'), name...), '"'), nil
}

// DecodeEffect reads what [AppendEffect] wrote. One that was written by name is
// nil; workers have nothing but their key.
func DecodeEffect(b []byte) (Effect, error) {
	name, value, full := untag(b)
	if !full {
		name = string(bytes.Trim(b, `"`))
	}
	for _, k := range effectKinds {
		if k.name != name || full != (k.decode != nil) {
			continue
		}
		if full {
			return k.decode(value)
		}
		return nil, nil
	}
	return nil, errKind
}

// assigned is the written form of Assign.
type assigned struct {
	ID      queue.ID
	Attempt int
	Worker  placement.Key
	Warmup  time.Duration
	Why     placement.Explanation
}

func decodeAssign(b []byte) (Effect, error) {
	var a assigned
	err := json.Unmarshal(b, &a)
	return Assign{ID: a.ID, Attempt: a.Attempt, Worker: &placement.Worker{Key: a.Worker}, Warmup: a.Warmup, Why: a.Why}, err
}

// loaded is the written form of Load.
type loaded struct {
	Worker placement.Key
	Model  string
	Evict  []string
}

func decodeLoad(b []byte) (Effect, error) {
	var l loaded
	err := json.Unmarshal(b, &l)
	return Load{Worker: &placement.Worker{Key: l.Worker}, Model: l.Model, Evict: l.Evict}, err
}
