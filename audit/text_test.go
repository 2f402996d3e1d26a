package audit_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/llorch/llorch/audit"
	"github.com/llorch/llorch/audit/events"
)

func TestEscapeVectors(t *testing.T) { // AUD-6
	b, err := os.ReadFile("testdata/escape.tsv")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for l := range strings.Lines(string(b)) {
		l = strings.TrimSuffix(l, "\n")
		if l == "" || strings.HasPrefix(l, "#") {
			continue
		}
		raw, escaped, ok := strings.Cut(l, "\t")
		in, inErr := strconv.Unquote(raw)
		want, wantErr := strconv.Unquote(escaped)
		if err := errors.Join(inErr, wantErr); !ok || err != nil {
			t.Fatalf("vector %q: %v", l, err)
		}
		if got := audit.Escape(in); got != want {
			t.Errorf("Escape(%q) = %s, want %s", in, got, want)
		}
		if back, err := audit.Unescape(want); err != nil || back != in {
			t.Errorf("Unescape(%s) = %q, %v", want, back, err)
		}
		n++
	}
	if n < 25 {
		t.Errorf("only %d vectors", n)
	}
}

// checkEscape holds for every text.
func checkEscape(t interface{ Errorf(string, ...any) }, s string) {
	e := audit.Escape(s)
	back, err := audit.Unescape(e)
	if err != nil || back != s {
		t.Errorf("Unescape(Escape(%q)) = %q, %v", s, back, err)
	}
	if !utf8.ValidString(e) {
		t.Errorf("Escape(%q) is not UTF-8", s)
	}
	for _, r := range e {
		if !strconv.IsPrint(r) || strings.ContainsRune("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\U0001d159", r) ||
			r >= 0x180b && r <= 0x180f || r >= 0xfe00 && r <= 0xfe0f || r >= 0xe0100 && r <= 0xe01ef {
			t.Errorf("Escape(%q) holds %U", s, r)
		}
	}
	if e == s && strings.Contains(s, `\`) {
		t.Errorf("Escape(%q) left the backslash", s)
	}
}

func TestEscapeIsReversible(t *testing.T) { // AUD-6
	rapid.Check(t, func(t *rapid.T) {
		checkEscape(t, string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")))
		checkEscape(t, rapid.String().Draw(t, "text"))
	})
	for r := rune(0); r <= utf8.MaxRune; r++ { // every rune, among clean text
		if utf8.ValidRune(r) && (r < 0x3000 || r%97 == 0 || r >= 0xe0000 && r < 0xe0200 || r >= 0xfe00 && r < 0x10000) {
			checkEscape(t, "a"+string(r)+"b")
		}
	}
}

func FuzzEscape(f *testing.F) { // AUD-6
	for _, s := range []string{"", "plain", "\x1b[31m", "\u202eevil", "\xff\xfe", `\x41`, "\ufffd", "a\u0301"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) { checkEscape(t, s) })
}

func FuzzUnescape(f *testing.F) {
	for _, s := range []string{`\x1b`, `\u202e`, `\U000e0041`, `\`, `\101`, `\q`, `\xf`, `\ud800`, `a\\b`} {
		f.Add(s)
	}
	f.Fuzz(func(_ *testing.T, s string) { _, _ = audit.Unescape(s) })
}

func TestUnescapeRefuses(t *testing.T) {
	for _, s := range []string{`\`, `\q`, `\x1`, `\u12`, `\101`, `\U00110000`} {
		if got, err := audit.Unescape(s); err == nil {
			t.Errorf("Unescape(%s) = %q", s, got)
		}
	}
}

func TestHostileTextIsKept(t *testing.T) { // AUD-6, AUD-7, G8; trap
	dir := t.TempDir() + "/log"
	l := mustOpen(t, config(dir))
	hostile := "a\x1b[2J\n\u202e\xff\u200b\x00b"
	rc := mustAppend(t, l, audit.Event{
		Reason: hostile, Correlation: "no spaces please", TraceID: "ABC", Actor: audit.Actor{Kind: "user", ID: hostile},
		Data: note{Text: hostile, Map: map[string]string{hostile: hostile}},
	})
	long := mustAppend(t, l, audit.Event{Data: note{
		Text: strings.Repeat("ä", 1000), List: slices.Repeat([]string{strings.Repeat("\x01", 100)}, 100),
	}})
	mustClose(t, l)
	all := records(t, dir)
	r := all[rc.Seq]
	if got := strings.Join(r.Flags, " "); got != "bad_id escaped" {
		t.Errorf("flags = %s", got)
	}
	if got, err := audit.Unescape(r.Event.Reason); err != nil || got != hostile {
		t.Errorf("reason = %q, %v", got, err)
	}
	if r.Event.Correlation != "" || r.Event.TraceID != "" || bytes.ContainsAny(r.Raw, "\x1b\x00\u202e") {
		t.Errorf("record = %s", r.Raw)
	}
	var n note
	r = all[long.Seq]
	if err := json.Unmarshal(r.Event.Data.(json.RawMessage), &n); err != nil {
		t.Fatal(err)
	}
	want := strings.Repeat("ä", 512) + "…(+976 sha256:"
	if !strings.HasPrefix(n.Text, want) || len(n.List) != 64 || len(r.Raw) >= 61440 ||
		!strings.HasPrefix(n.List[63], "…(+37 sha256:") || !slices.Contains(r.Flags, "truncated") {
		t.Errorf("text %.60s…, %d items, last %s, %d bytes, flags %v", n.Text[1000:], len(n.List), n.List[63], len(r.Raw), r.Flags)
	}
	mustVerify(t, dir)
}

type wide struct {
	A []sub `json:"a"`
}

type sub struct {
	L []string          `json:"l"`
	M map[string]string `json:"m,omitzero"`
}

func TestLineNeverTooLong(t *testing.T) { // AUD-7
	dir := t.TempDir() + "/log"
	c := config(dir)
	c.Types = []audit.TypeInfo{{Name: "app.wide", Data: wide{}}}
	l := mustOpen(t, c)
	bad := wide{A: slices.Repeat([]sub{{L: slices.Repeat([]string{strings.Repeat("\u202e", 300)}, 64)}}, 64)}
	_, err := l.Append(t.Context(), audit.Event{Data: bad})
	if fe, ok := errors.AsType[*audit.FieldError](err); !ok || fe.Field != "data" {
		t.Errorf("Append(4 MB) = %v", err)
	}
	mustAppend(t, l, audit.Event{Data: wide{A: bad.A[:1]}})
	mustAppend(t, l, audit.Event{Data: wide{A: bad.A[:5]}})
	mustClose(t, l)
	mustVerify(t, dir)
}

func TestGoldenVector(t *testing.T) { // AUD-8, AUD-10, AUD-11
	want, err := os.ReadFile("testdata/vectors/two/2026-01-02.audit")
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	one, err := audit.EncodeLine(audit.StartedInfo(), audit.Event{Data: audit.StartedVector()}, "demo", audit.Fixed{
		ID: "00000000-0000-7000-8000-000000000002", At: at, Emit: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	first, err := audit.ParseRecord(one)
	if err != nil {
		t.Fatal(err)
	}
	canceled := audit.TypeInfo{Name: "task.canceled", Data: events.TaskCanceled{}}
	two, err := audit.EncodeLine(canceled, audit.Event{
		Actor: audit.Actor{Kind: "token", ID: "token:9f86d0", Auth: "bearer_token"}, Correlation: "req-1", Reason: "user",
		Data: events.TaskCanceled{TaskID: "t-\x1b1"},
	}, "demo", audit.Fixed{ID: "00000000-0000-7000-8000-000000000003", At: at.Add(1), Emit: 2, Seq: 1, Prev: first.Hash})
	if err != nil {
		t.Fatal(err)
	}
	if got := string(one) + string(two); got != string(want) {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
	second, err := audit.ParseRecord(two)
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(second.Hash[:]); got != "9782cbf2f28d73c0536454657533260aa38c23801800d316673a5c899fe1ecc4" {
		t.Errorf("chain hash of line 1 = %s", got)
	}
}

// stdLine is a record as encoding/json writes it.
type stdLine struct {
	Actor  json.RawMessage `json:"actor"`
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
	Res    json.RawMessage `json:"res,omitzero"`
	Seq    uint64          `json:"seq"`
	Span   string          `json:"span,omitzero"`
	Svc    string          `json:"svc"`
	Trace  string          `json:"trace,omitzero"`
	Type   string          `json:"type"`
	V      int             `json:"v"`
}

func TestLineIsStandardJSON(t *testing.T) { // AUD-8: the bytes of encoding/json
	info := audit.TypeInfo{Name: "app.note", Data: note{}}
	rapid.Check(t, func(rt *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.StringMatching(`[<>&"\\/ a]*`), rapid.Just(strings.Repeat("\u202e<\"", 900)))
		ev := audit.Event{
			Reason: text.Draw(rt, "reason"), Correlation: rapid.StringMatching(`[A-Za-z0-9 -]{0,70}`).Draw(rt, "cid"),
			Actor:    audit.Actor{Kind: "user", ID: "u" + text.Draw(rt, "id"), Session: text.Draw(rt, "sid")},
			Resource: audit.Resource{Kind: "k", ID: "i" + text.Draw(rt, "res"), Parent: text.Draw(rt, "parent")},
			Outcome:  audit.Outcome(rapid.IntRange(0, 3).Draw(rt, "out")),
			Data: note{
				Text: text.Draw(rt, "text"), N: rapid.Int64Range(-1<<53+1, 1<<53-1).Draw(rt, "n"),
				List: rapid.SliceOfN(text, 0, 70).Draw(rt, "list"), Map: rapid.MapOfN(rapid.StringN(0, 20, 60), text, 0, 20).Draw(rt, "map"),
			},
		}
		got, err := audit.EncodeLine(info, ev, "svc", audit.Fixed{
			ID: "x", At: time.Unix(0, rapid.Int64Range(0, 1<<61).Draw(rt, "at")), Emit: rapid.Uint64().Draw(rt, "emit"), Seq: rapid.Uint64().Draw(rt, "seq"),
		})
		if err != nil {
			rt.Fatal(err)
		}
		var l stdLine
		if err := json.Unmarshal(got, &l); err != nil {
			rt.Fatalf("%s: %v", got, err)
		}
		var want bytes.Buffer
		enc := json.NewEncoder(&want)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(l); err != nil || want.String() != string(got) {
			rt.Fatalf("got  %swant %s%v", got, want.String(), err)
		}
		var n note
		var data bytes.Buffer
		enc = json.NewEncoder(&data)
		enc.SetEscapeHTML(false)
		if err := errors.Join(json.Unmarshal(l.Data, &n), enc.Encode(n)); err != nil || strings.TrimSpace(data.String()) != string(l.Data) {
			rt.Fatalf("data %s, encoding/json writes %s%v", l.Data, data.String(), err)
		}
	})
}

func TestFieldShiftChangesHash(t *testing.T) { // trap: fields concatenated without lengths
	info := audit.TypeInfo{Name: "app.note", Data: note{}}
	seen := make(map[[32]byte]bool)
	for _, parts := range [][2]string{{"ab", "c"}, {"a", "bc"}, {"abc", ""}, {`a","text":"b`, "c"}} {
		b, err := audit.EncodeLine(info, audit.Event{Reason: parts[0], Data: note{Text: parts[1]}}, "s", audit.Fixed{ID: "x", Emit: 1})
		if err != nil {
			t.Fatal(err)
		}
		r, err := audit.ParseRecord(b)
		if err != nil || seen[r.Hash] || r.Event.Reason != parts[0] {
			t.Errorf("%v: hash seen %v, %v", parts, seen[r.Hash], err)
		}
		seen[r.Hash] = true
	}
}
