package narration

import (
	"bytes"
	"encoding"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// maxResolve bounds LogValuers that return LogValuers.
const maxResolve = 8

// cleaner cleans one record.
type cleaner struct {
	n         *Narrator
	lits      *literals
	ids       IDs
	attrsLeft int
	bytesLeft int
	dropped   int
}

// text redacts, escapes and cuts s.
func (c *cleaner) text(s string, limit int, multiline bool) string {
	clean := c.n.rules.redact(s, c.lits)
	if len(clean) != len(s) || clean != s {
		c.n.counts.redacted.Add(1)
	}
	return c.escaped(clean, limit, multiline)
}

// escaped is text for what has been redacted already.
func (c *cleaner) escaped(s string, limit int, multiline bool) string {
	out := escape(s, multiline)
	if len(out) != len(s) {
		c.n.counts.escaped.Add(1)
	}
	if limit = min(limit, max(c.bytesLeft, 64)); len(out) > limit {
		c.n.counts.truncated.Add(1)
		out = cut(out, limit)
	}
	c.bytesLeft -= len(out)
	return out
}

func (c *cleaner) message(s string) string { return c.text(s, c.n.cfg.Limits.Human, false) }

func (c *cleaner) key(k string) string {
	if k == "" {
		return "!EMPTY"
	}
	return c.text(k, 64, false)
}

// attr appends a, clean. Groups without a name are inlined, empty ones vanish.
func (c *cleaner) attr(dst []slog.Attr, a slog.Attr, depth int, root bool) []slog.Attr {
	v := resolve(a.Value)
	if v.Kind() == slog.KindGroup {
		return c.group(dst, a.Key, v.Group(), depth, root)
	}
	if a.Key == "" && v.Kind() == slog.KindAny && v.Any() == nil {
		return dst // the zero Attr
	}
	if c.attrsLeft <= 0 || c.bytesLeft <= 0 {
		c.dropped++
		return dst
	}
	c.attrsLeft--
	key := c.key(a.Key)
	if root && reserved(key) {
		switch ours, same := c.ours(key, v); {
		case same:
			return dst
		case ours != "":
			return append(dst, slog.String(key, ours))
		}
		key = "attr_" + key
	}
	return append(dst, slog.Attr{Key: key, Value: c.value(a.Key, v)})
}

func (c *cleaner) group(dst []slog.Attr, key string, attrs []slog.Attr, depth int, root bool) []slog.Attr {
	if key == "" {
		for _, a := range attrs {
			dst = c.attr(dst, a, depth, root)
		}
		return dst
	}
	if depth >= c.n.cfg.Limits.Depth {
		c.dropped++
		return dst
	}
	var inner []slog.Attr
	for _, a := range attrs {
		inner = c.attr(inner, a, depth+1, false)
	}
	if len(inner) == 0 {
		return dst
	}
	if key = c.key(key); root && reserved(key) {
		key = "attr_" + key
	}
	return append(dst, slog.Attr{Key: key, Value: slog.GroupValue(inner...)})
}

// ours returns the text of a reserved key that may come as an attribute: actor and
// action as constants of the program, and ids where the context has none (loops
// log outside of requests). same reports an id that stands there already.
func (c *cleaner) ours(key string, v slog.Value) (text string, same bool) {
	switch w := v.Any().(type) {
	case Actor:
		if key == keyActor {
			return c.text(string(w), 48, false), false
		}
	case Action:
		if key == keyAction {
			return c.text(string(w), 48, false), false
		}
	case outcome:
		if key == keyOutcome {
			return string(w), false
		}
	case provenance:
		return string(w), false
	case Correlation:
		return c.oursID(key, string(w))
	case string:
		return c.oursID(key, w)
	}
	return "", false
}

func (c *cleaner) oursID(key, s string) (text string, same bool) {
	have, ok := "", false
	switch key {
	case keyCorrelate:
		have = string(c.ids.Correlation)
		_, ok = ParseCorrelation(s)
		ok = ok && c.n.rules.redact(s, c.lits) == s
	case keyTrace:
		var id [16]byte
		ok = len(s) == 32 && lowerHex(id[:], s)
		if !c.ids.Trace.IsZero() {
			have = hex.EncodeToString(c.ids.Trace.TraceID[:])
		}
	case keySpan:
		var id [8]byte
		ok = len(s) == 16 && lowerHex(id[:], s)
		if !c.ids.Trace.IsZero() {
			have = hex.EncodeToString(c.ids.Trace.SpanID[:])
		}
	}
	switch {
	case !ok:
		return "", false
	case have == "":
		return s, false
	}
	return "", have == s
}

// resolve follows LogValuers; one that panics or never ends becomes a word.
func resolve(v slog.Value) (out slog.Value) {
	if v.Kind() != slog.KindLogValuer {
		return v
	}
	defer func() {
		if recover() != nil {
			out = slog.StringValue(fmt.Sprintf("!ERROR(%T)", v.Any()))
		}
	}()
	out = v
	for range maxResolve {
		if out.Kind() != slog.KindLogValuer {
			return out
		}
		out = out.LogValuer().LogValue()
	}
	if out.Kind() == slog.KindLogValuer {
		return slog.StringValue(fmt.Sprintf("!ERROR(%T)", v.Any()))
	}
	return out
}

// value cleans v, which is neither a group nor a LogValuer, under its raw key.
func (c *cleaner) value(key string, v slog.Value) slog.Value {
	switch v.Kind() {
	case slog.KindString, slog.KindAny:
	default:
		return v
	}
	x := v.Any()
	if x == nil {
		return v
	}
	if !c.n.rules.off[ruleKey] && c.n.rules.sensitive(key) && !number(x) {
		c.n.counts.redacted.Add(1)
		return slog.StringValue(c.n.rules.repl)
	}
	if v.Kind() == slog.KindString {
		return slog.StringValue(c.text(v.String(), c.n.cfg.Limits.String, slices.Contains(c.n.cfg.Multiline, key)))
	}
	text, isJSON := c.render(x)
	if !isJSON {
		return slog.StringValue(c.text(text, c.n.cfg.Limits.String, slices.Contains(c.n.cfg.Multiline, key)))
	}
	clean := c.n.rules.redact(text, c.lits)
	if clean == text && len(text) <= min(c.n.cfg.Limits.Any, c.bytesLeft) && printable(text) {
		c.bytesLeft -= len(text)
		return slog.AnyValue(json.RawMessage(text))
	}
	if clean != text {
		c.n.counts.redacted.Add(1)
	}
	return slog.StringValue(c.escaped(clean, c.n.cfg.Limits.Any, false))
}

// printable is escape's question for JSON, in which backslashes belong.
func printable(s string) bool {
	for len(s) > 0 {
		n, ok := plain(s, false)
		if !ok && s[0] != '\\' {
			return false
		}
		s = s[n:]
	}
	return true
}

func number(x any) bool {
	switch x.(type) {
	case bool, int8, int16, int32, uint8, uint16, uint32, float32, uintptr:
		return true
	}
	return false
}

// render turns a value of any type into text, or into JSON. Methods that panic
// become a word.
func (c *cleaner) render(x any) (text string, isJSON bool) {
	defer func() {
		if recover() != nil {
			text, isJSON = fmt.Sprintf("!ERROR(%T)", x), false
		}
	}()
	switch x := x.(type) {
	case error:
		return x.Error(), false
	case []byte:
		return fmt.Sprintf("len=%d hex=%x", len(x), x[:min(len(x), 16)]), false
	case http.Header:
		return c.header(x), false
	case *http.Request:
		return x.Method + " " + x.Host + x.URL.EscapedPath(), false
	case *url.URL:
		return x.Redacted(), false
	case url.URL:
		return x.Redacted(), false
	case json.Marshaler:
	case encoding.TextMarshaler:
		b, err := x.MarshalText()
		if err != nil {
			return fmt.Sprintf("!ERROR(%T)", x), false
		}
		return string(b), false
	case fmt.Stringer:
		return x.String(), false
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(x); err != nil {
		return fmt.Sprintf("!ERROR(%T)", x), false
	}
	return strings.TrimSuffix(b.String(), "\n"), true
}

// header writes the names in order, and the values that are no secrets.
func (c *cleaner) header(h http.Header) string {
	var b strings.Builder
	keys := make([]string, 0, len(h))
	for k := range h {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for i, k := range keys {
		if i > 0 {
			b.WriteString(", ")
		}
		value := strings.Join(h[k], ", ")
		if c.n.rules.sensitive(k) {
			value = c.n.rules.repl
		}
		b.WriteString(k + ": " + value)
	}
	return b.String()
}
