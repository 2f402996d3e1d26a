package secrets_test

import (
	"bytes"
	"encoding/base64"
	"encoding/csv"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	htmltemplate "html/template"
	"log"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"text/template"

	"github.com/llorch/llorch/secrets"
)

const canary = "cAnArY-5f3e9b7a1c2d/8+%"

// leaks reports whether text holds a piece of 8 bytes of the canary, in any usual
// form.
func leaks(text string) bool {
	q, _ := json.Marshal(canary)
	for _, form := range []string{
		canary, hex.EncodeToString([]byte(canary)), base64.StdEncoding.EncodeToString([]byte(canary)),
		base64.URLEncoding.EncodeToString([]byte(canary)), url.QueryEscape(canary), string(q), fmt.Sprint([]byte(canary)),
	} {
		for i := range len(form) - 8 {
			if strings.Contains(strings.ToLower(text), strings.ToLower(form[i:i+8])) {
				return true
			}
		}
	}
	return false
}

func secretOf(text string) secrets.Secret { return secrets.New([]byte(text)) }

// SCR-1: no verb, flag, container or encoder shows the content.
func TestRedactionMatrix(t *testing.T) {
	s := secretOf(canary)
	k, err := secrets.NewKey([]byte((canary + canary)[:32]))
	if err != nil {
		t.Fatal(err)
	}
	type hidden struct {
		s secrets.Secret
		p *secrets.Secret
		k secrets.Key
	}
	type shown struct {
		S secrets.Secret
		K secrets.Key
	}
	ch := make(chan secrets.Secret, 1)
	ch <- s
	shapes := map[string]any{
		"value": s, "key": k, "pointer": &s, "slice": []secrets.Secret{s}, "array": [1]secrets.Secret{s}, "map": map[string]secrets.Secret{"a": s},
		"exported": shown{s, k}, "exported pointer": &shown{s, k}, "unexported": hidden{s, &s, k}, "unexported pointer": &hidden{s, &s, k},
		"interface": []any{s, k}, "channel": ch, "error": fmt.Errorf("wrap %v: %w", s, errors.New("x")), "nested": map[string]any{"a": []any{shown{s, k}}},
	}
	for shape, v := range shapes {
		for _, verb := range "vsqxXdbocUeEfFgGtTpw" {
			for _, flag := range []string{"", "+", "#", "-", " ", "0", "20", ".3", "#+"} {
				if out := fmt.Sprintf("%"+flag+string(verb), v); leaks(out) {
					t.Errorf("%%%s%c of %s: %s", flag, verb, shape, out)
				}
			}
		}
		for encoder, out := range encode(v) {
			if leaks(out) {
				t.Errorf("%s of %s: %s", encoder, shape, out)
			}
		}
	}
	if got := fmt.Sprintf("%s %v %#v %x %d", s, k, s, k, s); got != strings.TrimSpace(strings.Repeat("[REDACTED] ", 5)) {
		t.Errorf("formatted as %q", got)
	}
	if got, err := json.Marshal(shown{s, k}); string(got) != `{"S":"[REDACTED]","K":"[REDACTED]"}` || err != nil {
		t.Errorf("JSON %s, %v", got, err)
	}
}

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
	keep("text/template", func(b *bytes.Buffer) error { return template.Must(template.New("").Parse("{{.}}")).Execute(b, v) })
	keep("html/template", func(b *bytes.Buffer) error {
		return htmltemplate.Must(htmltemplate.New("").Parse("<a href='?{{.}}'>{{.}}</a><script>{{.}}</script>")).Execute(b, v)
	})
	keep("log", func(b *bytes.Buffer) error { log.New(b, "", 0).Println(v); return nil })
	keep("slog text", func(b *bytes.Buffer) error { slog.New(slog.NewTextHandler(b, nil)).Info("m", "v", v); return nil })
	keep("slog json", func(b *bytes.Buffer) error { slog.New(slog.NewJSONHandler(b, nil)).Info("m", "v", v); return nil })
	return out
}

// SCR-2: what was redacted cannot be loaded back as a password.
func TestTrap_RedactedRoundTrip(t *testing.T) {
	var c struct{ S secrets.Secret }
	if err := json.Unmarshal([]byte(`{"S":"[REDACTED]"}`), &c); err == nil || !c.S.IsZero() {
		t.Errorf("JSON was loaded: %v", err)
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
}

// %+v of a configuration struct with a secret in an unexported field.
func TestTrap_UnexportedField(t *testing.T) {
	type config struct{ token secrets.Secret }
	if out := fmt.Sprintf("%+v", config{secretOf(canary)}); leaks(out) {
		t.Error(out)
	}
}
