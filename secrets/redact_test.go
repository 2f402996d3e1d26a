package secrets_test

import (
	"bytes"
	"encoding/csv"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"errors"
	"expvar"
	"fmt"
	htmltemplate "html/template"
	"log"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"
	"text/template"

	"github.com/llorch/llorch/secrets"
	"github.com/llorch/llorch/secrets/secretstest"
)

const canary = "cAnArY-5f3e9b7a1c2d/8+%"

// spy is a test that notes what it is told.
type spy struct {
	testing.TB
	said []string
}

func (s *spy) Helper() {}
func (s *spy) Errorf(format string, args ...any) {
	s.said = append(s.said, fmt.Sprintf(format, args...))
}

// leaks reports whether text holds a piece of 8 bytes of the canary, in any usual
// form.
func leaks(text string) bool { return len(leaking(map[string]string{"": text})) > 0 }

// leaking names the texts that leak.
func leaking(texts map[string]string) (names []string) {
	all := slices.Sorted(maps.Keys(texts))
	blobs := make([]string, len(all))
	for i, name := range all {
		blobs[i] = texts[name]
	}
	var s spy
	secretstest.AssertNoLeak(&s, secretOf(canary), blobs...)
	for _, said := range s.said {
		var i int
		if _, err := fmt.Sscanf(said, "blob %d ", &i); err != nil {
			panic(said)
		}
		names = append(names, all[i])
	}
	return names
}

func secretOf(text string) secrets.Secret { return secrets.New([]byte(text)) }

type shown struct {
	S secrets.Secret
	K secrets.Key
}

type hidden struct {
	s secrets.Secret
	p *secrets.Secret
	k secrets.Key
	i any
}

// shapes are the places where a caller can have a Secret or a Key.
func shapes(t *testing.T) map[string]any {
	t.Helper()
	s := secretOf(canary)
	k, err := secrets.NewKey([]byte((canary + canary)[:32]))
	if err != nil {
		t.Fatal(err)
	}
	ch := make(chan secrets.Secret, 1)
	ch <- s
	return map[string]any{
		"value": s, "key": k, "pointer": &s, "slice": []secrets.Secret{s}, "array": [1]secrets.Secret{s}, "map": map[string]secrets.Secret{"a": s},
		"exported": shown{s, k}, "exported pointer": &shown{s, k}, "unexported": hidden{s, &s, k, s}, "unexported pointer": &hidden{s, &s, k, &k},
		"interface": []any{s, k}, "channel": ch, "nested": map[string]any{"a": []any{shown{s, k}, &hidden{s, &s, k, nil}}},
		"wrapped error": fmt.Errorf("wrap %v and %+v: %w", s, hidden{s, &s, k, s}, errors.New("x")),
		"joined error":  errors.Join(fmt.Errorf("first %x", s), fmt.Errorf("second %q", k)),
	}
}

// SCR-1: no verb, flag, container or encoder shows the content. The same search
// finds a plain string everywhere.
func TestRedactionMatrix(t *testing.T) {
	for shape, v := range shapes(t) {
		texts := encode(v)
		maps.Copy(texts, format(v))
		for _, how := range leaking(texts) {
			t.Errorf("%s of %s: %s", how, shape, texts[how])
		}
	}
	plain := encode(canary)
	for how := range plain {
		if !slices.Contains(leaking(plain), how) {
			t.Errorf("%s does not even show a plain string: %s", how, plain[how])
		}
	}
	for _, verb := range "vsqxX" {
		if how := "%" + string(verb); !leaks(format(canary)[how]) {
			t.Errorf("%s does not even show a plain string", how)
		}
	}
}

// format returns what package fmt makes of v, by verb and flag.
func format(v any) map[string]string {
	out := map[string]string{}
	for _, verb := range "vsqxXdbocUeEfFgGtTpwOZ" {
		for _, flag := range []string{"", "+", "#", "-", " ", "0", "20", ".3", "#+", "+-# 012.40"} {
			out["%"+flag+string(verb)] = fmt.Sprintf("%"+flag+string(verb), v)
		}
	}
	out["Sprint"], out["Sprintln"] = fmt.Sprint(v), fmt.Sprintln(v)
	return out
}

// encode returns what encoders make of v, with their errors.
func encode(v any) map[string]string {
	out := map[string]string{}
	keep := func(name string, write func(b *bytes.Buffer) error) {
		var b bytes.Buffer
		err := write(&b)
		out[name] = b.String() + fmt.Sprint(err)
	}
	keep("json", func(b *bytes.Buffer) error { return json.NewEncoder(b).Encode(v) })
	keep("xml", func(b *bytes.Buffer) error { return xml.NewEncoder(b).Encode(v) })
	keep("gob", func(b *bytes.Buffer) error { return gob.NewEncoder(b).Encode(v) })
	keep("csv", func(b *bytes.Buffer) error {
		w := csv.NewWriter(b)
		defer w.Flush()
		return w.Write([]string{fmt.Sprint(v)})
	})
	keep("text/template", func(b *bytes.Buffer) error {
		return template.Must(template.New("").Parse("{{.}}{{printf `%q` .}}")).Execute(b, v)
	})
	keep("html/template", func(b *bytes.Buffer) error {
		return htmltemplate.Must(htmltemplate.New("").Parse("<a href='?{{.}}'>{{.}}</a><script>{{.}}</script>")).Execute(b, v)
	})
	keep("log", func(b *bytes.Buffer) error { log.New(b, "", 0).Println(v); return nil })
	keep("slog text", func(b *bytes.Buffer) error { slog.New(slog.NewTextHandler(b, nil)).Info("m", "v", v); return nil })
	keep("slog json", func(b *bytes.Buffer) error { slog.New(slog.NewJSONHandler(b, nil)).Info("m", "v", v); return nil })
	keep("expvar", func(b *bytes.Buffer) error { b.WriteString(expvar.Func(func() any { return v }).String()); return nil })
	keep("error", func(b *bytes.Buffer) error { return fmt.Errorf("load: %w", fmt.Errorf("with %v", v)) })
	keep("dumper", func(b *bytes.Buffer) error { dump(b, reflect.ValueOf(v), 0); return nil })
	return out
}

// dump writes all texts and bytes that reflection reaches, as debuggers' printers
// do, through pointers and unexported fields.
func dump(b *bytes.Buffer, v reflect.Value, depth int) {
	if depth > 20 {
		return
	}
	switch v.Kind() {
	case reflect.String:
		b.WriteString(v.String())
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			dump(b, v.Elem(), depth+1)
		}
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			fmt.Fprintf(b, "%x", v)
			return
		}
		for i := range v.Len() {
			dump(b, v.Index(i), depth+1)
		}
	case reflect.Map:
		for _, k := range v.MapKeys() {
			dump(b, v.MapIndex(k), depth+1)
		}
	case reflect.Struct:
		for _, field := range v.Fields() {
			dump(b, field, depth+1)
		}
	}
}

// SCR-1: the dumper would find bytes behind a pointer in an unexported field.
func TestDumperFinds(t *testing.T) {
	b := []byte(canary)
	var out bytes.Buffer
	dump(&out, reflect.ValueOf(&struct{ p *[]byte }{&b}), 0)
	if !leaks(out.String()) {
		t.Errorf("the dumper found %q", out.String())
	}
}

// SCR-1: exactly what is printed instead.
func TestRedacted(t *testing.T) {
	s := secretOf(canary)
	k := secretstest.Key(1)
	if got := fmt.Sprintf("%s %v %#v %x %d %s %s", s, k, s, k, s, s.String(), k.GoString()); got != strings.TrimSpace(strings.Repeat("[REDACTED] ", 7)) {
		t.Errorf("formatted as %q", got)
	}
	if got, err := json.Marshal(shown{s, k}); string(got) != `{"S":"[REDACTED]","K":"[REDACTED]"}` || err != nil {
		t.Errorf("JSON %s, %v", got, err)
	}
	if got, err := xml.Marshal(shown{s, k}); string(got) != `<shown><S>[REDACTED]</S><K>[REDACTED]</K></shown>` || err != nil {
		t.Errorf("XML %s, %v", got, err)
	}
	var b bytes.Buffer
	slog.New(slog.NewTextHandler(&b, nil)).Info("m", "s", s)
	if !strings.HasSuffix(b.String(), "s=[REDACTED]\n") {
		t.Errorf("slog wrote %s", b.String())
	}
	if v := slog.AnyValue(k).Resolve(); v.Kind() != slog.KindString || v.String() != "[REDACTED]" {
		t.Errorf("a handler of slog sees %v", v)
	}
	if err := gob.NewEncoder(&b).Encode(s); err == nil {
		t.Error("gob encoded a Secret")
	}
}

// SCR-1: what the log of a test shows. The output of t.Log can only be seen from
// outside.
func TestLogOfTest(t *testing.T) {
	const inside = "LLORCH_SECRETS_LOG"
	if os.Getenv(inside) != "" {
		for _, v := range shapes(t) {
			t.Log(v)
			t.Logf("%v %+v %#v %s", v, v, v, v)
		}
		t.Log("the end")
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestLogOfTest$", "-test.v")
	cmd.Env = append(os.Environ(), inside+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil || leaks(string(out)) || !strings.Contains(string(out), "[REDACTED]") || !strings.Contains(string(out), "the end") {
		t.Errorf("%v\n%s", err, out)
	}
}

// SCR-2: what was redacted cannot be loaded back as a password.
func TestTrap_RedactedRoundTrip(t *testing.T) {
	var c shown
	if err := json.Unmarshal([]byte(`{"S":"[REDACTED]"}`), &c); err == nil || !c.S.IsZero() {
		t.Errorf("JSON was loaded: %v", err)
	}
	if err := xml.Unmarshal([]byte(`<shown><S>[REDACTED]</S></shown>`), &c); err == nil || !c.S.IsZero() {
		t.Errorf("XML was loaded: %v", err)
	}
	var k secrets.Key
	for name, err := range map[string]error{
		"text": k.UnmarshalText(nil), "json": k.UnmarshalJSON(nil), "binary": k.UnmarshalBinary(nil), "gob": k.GobDecode(nil),
	} {
		if err == nil {
			t.Errorf("%s was loaded", name)
		}
	}
	if _, err := secretOf("x").MarshalBinary(); err == nil {
		t.Error("MarshalBinary succeeded")
	}
	if _, err := secretOf("x").GobEncode(); err == nil {
		t.Error("GobEncode succeeded")
	}
}

// SCR-1: %+v of a configuration struct with a secret in an unexported field.
func TestTrap_UnexportedField(t *testing.T) {
	type config struct{ token secrets.Secret }
	if out := fmt.Sprintf("%+v", config{secretOf(canary)}); leaks(out) {
		t.Error(out)
	}
}
