package audit

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"strings"
	"time"
)

const formatVersion = 1 // member v of every line

// entry is an event on its way into a file: cleaned and stamped, but without
// seq, prev and the final time, which the writer adds when it knows them.
// Immutable after enqueueing, save for the fields that say otherwise.
type entry struct {
	typ      string
	class    Class
	emit     uint64 // set under the queue's lock
	at       time.Time
	id       string // UUIDv7
	actor    []byte // JSON object
	data     []byte // JSON object
	resource []byte // JSON object or nil
	flags    []byte // JSON items
	outcome  Outcome
	reason   string
	cid      string
	trace    string
	span     string
	service  string
	size     int64 // upper bound of the line's length

	queued  bool          // went through the queue; under the queue's lock
	wanted  bool          // somebody waits for it; under the queue's lock
	settled bool          // receipt and err are final; written by the writer under the queue's lock
	done    chan struct{} // closed when settled
	receipt Receipt
	err     error
}

// newEntry cleans ev, already matched with its declaration, into an entry.
// Texts shrink until the line fits.
func newEntry(d *declared, ev *Event, service string, now time.Time) (*entry, error) {
	if err := checkEvent(d, ev); err != nil {
		return nil, err
	}
	now = wall(now)
	for _, limit := range []int{0, 512, 256, 128, shortText} {
		c := &cleaner{limit: limit}
		data, err := d.payload(c, ev)
		if err != nil {
			return nil, err
		}
		e := &entry{
			typ: d.Name, class: d.Class, at: now, actor: c.actor(&ev.Actor), data: data,
			resource: c.resource(&ev.Resource), outcome: ev.Outcome, reason: c.text(ev.Reason),
			cid: c.id(ev.Correlation, isCorrelation), trace: c.id(ev.TraceID, isTrace), span: c.id(ev.SpanID, isSpan),
			service: service, done: make(chan struct{}),
		}
		e.flags = c.flags()
		e.size = e.bound()
		if e.size <= maxLine {
			e.id = newID(now)
			return e, nil
		}
	}
	return nil, &FieldError{Type: d.Name, Field: "data", Rule: "is too large even when its texts are cut"}
}

// wall drops the monotonic reading, by which two times could compare otherwise
// than they are written when the clock is set.
func wall(t time.Time) time.Time { return t.Round(0) }

// checkEvent looks at everything of an event but its payload.
func checkEvent(d *declared, ev *Event) error {
	fault := func(field, rule string) error { return &FieldError{Type: d.Name, Field: field, Rule: rule} }
	a := &ev.Actor
	switch a.Kind {
	case "user", "service", "token", "system":
		if a.ID == "" {
			return fault("actor.id", "is required")
		}
	case "anonymous":
	case "":
		if d.Actor || *a != (Actor{}) {
			return fault("actor", "is required")
		}
	default:
		return fault("actor.kind", "must be user, service, token, system or anonymous")
	}
	switch a.Auth {
	case "", "bearer_token", "api_key", "mtls", "internal", "none":
	default:
		return fault("actor.auth", "must be bearer_token, api_key, mtls, internal or none")
	}
	switch r := &ev.Resource; {
	case d.Resource && *r == Resource{}:
		return fault("res", "is required")
	case *r != Resource{} && (r.Kind == "" || r.ID == ""):
		return fault("res", "needs a kind and an id")
	case d.Reason && ev.Reason == "":
		return fault("reason", "is required")
	case ev.Outcome > Denied:
		return fault("out", "must be Success, Failure, Partial or Denied")
	}
	return nil
}

func (c *cleaner) actor(a *Actor) []byte {
	if a.Kind == "" {
		return []byte(`{"id":"system","kind":"system"}`)
	}
	b := []byte{'{'}
	b = appendMember(b, "auth", a.Auth)
	b = appendMember(b, "id", c.text(a.ID))
	if a.IP.IsValid() {
		b = appendMember(b, "ip", c.text(a.IP.String())) // a zone is free text
	}
	b = appendMember(b, "kind", a.Kind)
	b = appendMember(b, "sid", c.text(a.Session))
	return append(b, '}')
}

func (c *cleaner) resource(r *Resource) []byte {
	if *r == (Resource{}) {
		return nil
	}
	b := []byte{'{'}
	b = appendMember(b, "id", c.text(r.ID))
	b = appendMember(b, "kind", c.text(r.Kind))
	b = appendMember(b, "parent", c.text(r.Parent))
	return append(b, '}')
}

// appendMember adds "name":"value", with a comma unless it is the first of its
// object; an empty value is left out.
func appendMember(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	b = append(append(append(comma(b), '"'), name...), '"', ':')
	return appendText(b, value)
}

// comma adds a comma unless b ends where an object, a list or all begins.
func comma(b []byte) []byte {
	if len(b) == 0 || b[len(b)-1] == '{' || b[len(b)-1] == '[' {
		return b
	}
	return append(b, ',')
}

// place is what the writer adds to an entry: the chain before it, and the time
// raised to at least that of the line before.
type place chain

// appendLine writes the line of e, with its LF. The bytes are those that
// encoding/json, with HTML escaping off, gives for a struct of these members.
func (e *entry) appendLine(b []byte, p place) []byte {
	b = append(append(b, `{"actor":`...), e.actor...)
	b = append(b, `,"at":"`...)
	b = p.at.UTC().AppendFormat(b, timeForm)
	b = append(b, '"')
	b = appendMember(b, "cid", e.cid)
	b = appendMember(b, "class", e.class.String())
	if late := p.at.Sub(e.at); late > time.Second {
		b = strconv.AppendInt(append(b, `,"clk":`...), late.Milliseconds(), 10)
	}
	b = append(append(b, `,"data":`...), e.data...)
	b = strconv.AppendUint(append(b, `,"emit":`...), e.emit, 10)
	if e.flags != nil {
		b = append(append(append(b, `,"flags":[`...), e.flags...), ']')
	}
	b = appendMember(b, "id", e.id)
	b = appendMember(b, "out", e.outcome.String())
	b = hex.AppendEncode(append(b, `,"prev":"`...), p.prev[:])
	b = append(b, '"')
	b = appendMember(b, "reason", e.reason)
	if e.resource != nil {
		b = append(append(b, `,"res":`...), e.resource...)
	}
	b = strconv.AppendUint(append(b, `,"seq":`...), p.seq, 10)
	b = appendMember(b, "span", e.span)
	b = appendMember(b, "svc", e.service)
	b = appendMember(b, "trace", e.trace)
	b = appendMember(b, "type", e.typ)
	b = strconv.AppendInt(append(b, `,"v":`...), formatVersion, 10)
	return append(b, '}', '\n')
}

// bound is an upper bound of the line's length: everything known, every name
// and mark between, and the largest numbers.
func (e *entry) bound() int64 {
	const frame = 400 // 377 by count
	n := frame + len(e.actor) + len(e.data) + len(e.resource) + len(e.cid) + len(e.trace) + len(e.span)
	for _, s := range []string{e.reason, e.service, e.typ} {
		n += len(s) + strings.Count(s, `\`) + strings.Count(s, `"`)
	}
	return int64(n)
}

// newID returns a UUIDv7 of the given time.
func newID(now time.Time) string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], uint64(now.UnixMilli())<<16)
	_, _ = rand.Read(b[6:]) // it never fails
	b[6] = b[6]&0x0f | 0x70
	b[8] = b[8]&0x3f | 0x80
	s := hex.EncodeToString(b[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}
