package narration_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/llorch/llorch/narration"
	"pgregory.net/rapid"
)

func lines(tb testing.TB, name string) []string {
	tb.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		tb.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")[1:]
}

func quiet(tb testing.TB, w *bytes.Buffer, c narration.Config) *narration.Narrator {
	tb.Helper()
	n, err := narration.NewJSON(w, c)
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

// fataler is what a testing.TB and a rapid.T share.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// cleaned sends s as a message and returns what came out, unescaped.
func cleaned(tb fataler, n *narration.Narrator, w *bytes.Buffer, s string) string {
	tb.Helper()
	w.Reset()
	n.Logger().Info(s)
	var rec struct{ Human string }
	if err := json.Unmarshal(w.Bytes(), &rec); err != nil {
		tb.Fatalf("%v: %s", err, w)
	}
	return rec.Human
}

var backslashes = strings.NewReplacer(`\\`, `\`, `\t`, "\t")

// NAR-23, NAR-24: the table is the definition. What is hidden stays hidden when it
// goes through a second time.
func TestRedactTable(t *testing.T) {
	var w bytes.Buffer
	n := quiet(t, &w, narration.Config{})
	positive, negative := 0, 0
	for _, line := range lines(t, "redact.tsv") {
		in, want := strings.NewReplacer("«", "", "»", "").Replace(line), line
		for strings.Contains(want, "«") {
			before, rest, _ := strings.Cut(want, "«")
			_, after, _ := strings.Cut(rest, "»")
			want = before + "[REDACTED]" + after
		}
		if want == in {
			negative++
		} else {
			positive++
		}
		got := backslashes.Replace(cleaned(t, n, &w, in))
		if got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
		if again := backslashes.Replace(cleaned(t, n, &w, got)); again != got {
			t.Errorf("%q became %q the second time", got, again)
		}
	}
	if positive < 60 || negative < 60 {
		t.Errorf("%d positive and %d negative cases", positive, negative)
	}
}

// Secrets of every rule in ordinary surroundings.
func TestNoSurroundingHelps(t *testing.T) {
	var w bytes.Buffer
	n := quiet(t, &w, narration.Config{})
	const secret = "Zq3vT8xLk2Wm9RbY5cHs7dNf4gJp6aQe1uXy"
	for _, text := range []string{"password=" + secret, "Authorization: Bearer " + secret, "bearer " + secret, "ghp_" + secret, "postgres://u:" + secret + "@h/d", "eyJhbGciOiJIUzI1NiJ9." + secret, "-----BEGIN PRIVATE KEY-----" + secret + "-----END PRIVATE KEY-----"} {
		quoted, _ := json.Marshal(map[string]string{"x": text})
		for _, around := range []string{
			text, " " + text + " ", "\n" + text + "\n", "(" + text + ")", "[" + text + "]", "x: " + text, "x='" + text + "'", `x="` + text + `"`,
			string(quoted), "- " + text + "\n- b", "err: a: " + text + ": b", "curl " + text + " | sh", "<" + text + ">",
		} {
			if got := cleaned(t, n, &w, around); strings.Contains(got, secret) {
				t.Errorf("%q became %q", around, got)
			}
		}
	}
}

// Redaction is idempotent for any mixture of secrets, names and separators.
func TestRedactIdempotent(t *testing.T) {
	var w bytes.Buffer
	n := quiet(t, &w, narration.Config{})
	if _, err := n.AddLiteral("LITERALSECRET"); err != nil {
		t.Fatal(err)
	}
	pieces := []string{"password", "token", "=", ":", " ", "://", "@", "\"", "'", "LITERALSECRET", "Bearer ", "abcdefghijklmnopqrstuvwx", "eyJabc", ".", "-", "sk-", "ghp_", "authorization", "[REDACTED]", "]", "[", ",", "x", "-----BEGIN PRIVATE KEY-----", "-----END ", "1234567", "cookie", "=>"}
	rapid.Check(t, func(t *rapid.T) {
		s := strings.Join(rapid.SliceOfN(rapid.SampledFrom(pieces), 0, 12).Draw(t, "pieces"), "")
		once := cleaned(t, n, &w, s)
		if strings.Contains(once, "LITERALSECRET") {
			t.Fatalf("%q became %q", s, once)
		}
		if twice := cleaned(t, n, &w, once); twice != once {
			t.Fatalf("%q became %q, then %q", s, once, twice)
		}
	})
}

// Registered secrets are hidden everywhere, until they are removed.
func TestAddLiteral(t *testing.T) {
	var w bytes.Buffer
	n := quiet(t, &w, narration.Config{})
	remove, err := n.AddLiteral(`say "friend"`)
	if err != nil {
		t.Fatal(err)
	}
	again, err := n.AddLiteral(`say "friend"`)
	if err != nil {
		t.Fatal(err)
	}
	log := n.Logger().With("early", `say "friend"`)
	log.Info(`xsay "friend"x`, `key say "friend"`, errors.New(`say "friend"`), "any", map[string]string{"a": `say "friend"`})
	if strings.Contains(w.String(), "friend") || strings.Count(w.String(), "[REDACTED]") != 5 {
		t.Errorf("leaked: %s", &w)
	}
	remove()
	remove()
	if got := cleaned(t, n, &w, `say "friend"`); got != "[REDACTED]" {
		t.Errorf("the second registration was removed too: %q", got)
	}
	again()
	if got := cleaned(t, n, &w, `say "friend"`); got != `say "friend"` {
		t.Errorf("not removed: %q", got)
	}
	for _, bad := range []string{"", "1234567", "REDACTED"} {
		if _, err := n.AddLiteral(bad); err == nil || len(bad) > 0 && strings.Contains(err.Error(), bad) {
			t.Errorf("AddLiteral(%q) = %v", bad, err)
		}
	}
	for i := range 300 {
		if _, err := n.AddLiteral("secret number " + strconv.Itoa(i)); (err == nil) != (i < 256) {
			t.Fatalf("literal %d: %v", i, err)
		}
	}
}

// NAR-25: faults of a Redaction; additions; rules that are off.
func TestRedactionConfig(t *testing.T) {
	for field, r := range map[string]narration.Redaction{
		"Redact.Off": {Off: []string{"everything"}}, "Redact.Keys": {Keys: []string{""}}, "Redact.NotKeys": {NotKeys: []string{"--"}},
		"Redact.Prefixes": {Prefixes: map[string]int{"ab": 9}}, "Redact.Replacement": {Replacement: "password=x1y2z3a"},
	} {
		_, err := narration.NewJSON(&bytes.Buffer{}, narration.Config{Redact: r})
		if e, ok := errors.AsType[*narration.ConfigError](err); !ok || e.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	for _, repl := range []string{"x", "[a b]", "<a=b>", "[\x1b]", "[$1]x"} {
		if _, err := narration.NewJSON(&bytes.Buffer{}, narration.Config{Redact: narration.Redaction{Replacement: repl}}); err == nil {
			t.Errorf("replacement %q accepted", repl)
		}
	}
	var w bytes.Buffer
	n := quiet(t, &w, narration.Config{Redact: narration.Redaction{
		Keys: []string{"Pin-Code"}, NotKeys: []string{"cookie"}, Prefixes: map[string]int{"acme_": 4}, Replacement: "<$1>", Off: []string{"jwt"},
	}})
	for in, want := range map[string]string{
		"pin_code=abc": "pin_code=<$1>", "cookie=abcdefg": "cookie=abcdefg", "acme_abcd": "acme_<$1>", "acme_abc": "acme_abc", // TestReplacementIsLiteral
		"eyJhbGciOiJub25lIn0.eyJhIjoxfQ": "eyJhbGciOiJub25lIn0.eyJhIjoxfQ",
	} {
		if got := cleaned(t, n, &w, in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

// The scan stays linear for input made to be hard on it.
func TestHostile100KBLinear(t *testing.T) {
	n, err := narration.NewJSON(&bytes.Buffer{}, narration.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.AddLiteral("://://://x"); err != nil {
		t.Fatal(err)
	}
	log := n.Logger()
	took := func(text string) time.Duration {
		start := time.Now()
		log.Info(text)
		return time.Since(start)
	}
	for _, piece := range []string{"eyJ-", "eyJa.", "://", "a://", "bearer ", "password=", "password: ", "-----BEGIN ", "token=\"\\", "sk-a ", "a", "=", "\\\"", "password= \t", "x:y@", "ghp_-"} {
		small, large := strings.Repeat(piece, 12_500/len(piece)), strings.Repeat(piece, 100_000/len(piece))
		least, most := time.Hour, time.Hour
		// 8 × the input; a quadratic scan takes 64 ×, however often it is tried. A
		// busy machine is outwaited: only the best times count.
		for round := 0; round < 3 || round < 100 && most > 40*least; round++ {
			least, most = min(least, took(small)), min(most, took(large))
		}
		if most > 40*least {
			t.Errorf("%q: 12.5 KB %v, 100 KB %v", piece, least, most)
		}
	}
}

// A disabled level costs neither an allocation nor a look at the text.
func TestDisabledLevelRedactsNothing(t *testing.T) {
	n, err := narration.NewJSON(&bytes.Buffer{}, narration.Config{})
	if err != nil {
		t.Fatal(err)
	}
	log := n.Logger()
	if allocs := testing.AllocsPerRun(100, func() {
		log.LogAttrs(t.Context(), slog.LevelDebug, "password=abc", slog.String("token", "abc"))
	}); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
	if s := n.Stats(); s != (narration.Stats{}) {
		t.Errorf("%+v", s)
	}
}
