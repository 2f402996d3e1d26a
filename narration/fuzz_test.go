package narration_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/llorch/llorch/narration"
)

// FuzzRedact: redacting what was redacted changes nothing, and a literal never
// comes through.
func FuzzRedact(f *testing.F) {
	for _, line := range lines(f, "redact.tsv") {
		f.Add(strings.NewReplacer("«", "", "»", "").Replace(line))
	}
	var w bytes.Buffer
	n := quiet(f, &w, narration.Config{Limits: narration.Limits{Human: 1 << 20, Record: 1 << 21}})
	if _, err := n.AddLiteral("LITERALSECRET"); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if strings.Contains(s, `\`) || !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) || r > 0x2000 }) {
			return // FuzzEscape's business: escaping twice is not the same as once
		}
		once := cleaned(t, n, &w, s)
		if twice := cleaned(t, n, &w, once); twice != once || strings.Contains(once, "LITERALSECRET") {
			t.Fatalf("%q became %q, then %q", s, once, twice)
		}
	})
}

// FuzzEscape: what comes out is printable, and reading it as a Go string literal
// gives the input back.
func FuzzEscape(f *testing.F) {
	for _, line := range lines(f, "escape.tsv") {
		literal, _, _ := strings.Cut(line, "\t")
		s, err := strconv.Unquote(literal)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(s)
	}
	var w bytes.Buffer
	n := quiet(f, &w, narration.Config{
		Limits: narration.Limits{Human: 1 << 20, Record: 1 << 21}, Redact: narration.Redaction{Off: []string{"pair", "bearer", "jwt", "url", "pem", "prefix"}},
	})
	f.Fuzz(func(t *testing.T, s string) {
		got := cleaned(t, n, &w, s)
		for _, r := range got {
			if !strconv.IsPrint(r) {
				t.Fatalf("%q became %q", s, got)
			}
		}
		back, err := strconv.Unquote(`"` + strings.ReplaceAll(got, `"`, `\"`) + `"`)
		if err != nil || back != s {
			t.Fatalf("%q became %q, which reads %q, %v", s, got, back, err)
		}
	})
}

// FuzzHandle builds records from bytes: every one comes out as one line of JSON,
// without raw control characters.
func FuzzHandle(f *testing.F) {
	f.Add([]byte("message\x00key\x00value\x00token\x00abc"))
	f.Add([]byte("\x01\x02\x03\x04\x05\x06\x07\x08\x09"))
	var w bytes.Buffer
	n := quiet(f, &w, narration.Config{Level: narration.LevelTrace})
	f.Fuzz(func(t *testing.T, b []byte) {
		parts := strings.Split(string(b), "\x00")
		log := n.Logger()
		var attrs []slog.Attr
		for i, p := range parts {
			switch len(p) % 8 {
			case 0:
				log = log.WithGroup(p)
			case 1:
				attrs = append(attrs, slog.Any(p, errors.New(p)))
			case 2:
				attrs = append(attrs, slog.Any(p, map[string]any{p: b}))
			case 3:
				attrs = append(attrs, slog.Group(p, slog.String(p, p)))
			case 4:
				attrs = append(attrs, slog.Duration(p, time.Duration(i)))
			case 5:
				log = log.With(p, p)
			case 6:
				attrs = append(attrs, slog.Any(p, []string{p, p}), slog.Any(p, nil))
			default:
				attrs = append(attrs, slog.String(p, p))
			}
		}
		w.Reset()
		log.LogAttrs(t.Context(), slog.LevelInfo, parts[0], attrs...)
		line := w.String()
		if !json.Valid(w.Bytes()) || strings.Count(line, "\n") != 1 || strings.ContainsFunc(strings.TrimSuffix(line, "\n"), func(r rune) bool { return !strconv.IsPrint(r) }) {
			t.Fatalf("%q", line)
		}
	})
}

// FuzzParseTraceParent: what is accepted in version 00 is written back as it was.
func FuzzParseTraceParent(f *testing.F) {
	f.Add("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	f.Add("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := narration.ParseTraceParent(s)
		if err == nil && (p.IsZero() || strings.HasPrefix(s, "00") && p.String() != s || p.String()[3:55] != s[3:55]) {
			t.Fatalf("%q = %v", s, p)
		}
	})
}

// FuzzTraceState: what goes on is what came in, or nothing.
func FuzzTraceState(f *testing.F) {
	f.Add("a=1,b=2", "c=3")
	f.Add("t@s=v, x=y", "")
	n, err := narration.NewJSON(&bytes.Buffer{}, narration.Config{Level: narration.LevelMute})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.Header["Traceparent"] = []string{"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
		r.Header["Tracestate"] = []string{a, b}
		var got string
		narration.Middleware(n, narration.HTTPConfig{})(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = narration.IDsFrom(r.Context()).State })).
			ServeHTTP(httptest.NewRecorder(), r)
		if got != "" && (got != a+","+b || len(got) > 512 || strings.ContainsFunc(got, func(r rune) bool { return r > '~' || r < ' ' && r != '\t' })) {
			t.Fatalf("%q and %q gave %q", a, b, got)
		}
	})
}
