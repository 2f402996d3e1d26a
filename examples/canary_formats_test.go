package examples_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/csv"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"errors"
	"expvar"
	"fmt"
	htmltemplate "html/template"
	"io"
	"log"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	texttemplate "text/template"

	"github.com/llorch/llorch/authmin"
	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/poolcore"
	"github.com/llorch/llorch/poolregistry"
	"github.com/llorch/llorch/poolregistry/nodeapi"
	"github.com/llorch/llorch/secrets"
)

// sealed makes, by the name of its type, a value that no way of printing may show
// the content of, not even from an unexported field of somebody else's struct.
func sealed(t *testing.T, text string) map[string]any {
	t.Helper()
	token, err := authmin.ParseToken(text)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := authmin.NewKeySet(authmin.Key{Name: "a", Token: token})
	if err != nil {
		t.Fatal(err)
	}
	var event authmin.Event
	gate, err := authmin.New(authmin.Config{Keys: keys, Observe: func(_ context.Context, e authmin.Event) { event = e }})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequestWithContext(t.Context(), "GET", "/v2/tasks?access_token="+text, nil)
	r.Header.Set("Authorization", "Bearer "+text+"x")
	_, refused := gate.Authorize(r)
	refusal, ok := errors.AsType[*authmin.Refusal](refused)
	if !ok || event.Reason == "" {
		t.Fatalf("a wrong token was not refused: %v, %+v", refused, event)
	}
	principal, err := keys.Verify(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	secret, meta, err := secrets.ReadFile(t.Context(), file, secrets.Rules{})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text+"\x00"+text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, err = secrets.ReadFile(t.Context(), file, secrets.Rules{})
	fault, ok := errors.AsType[*secrets.Error](err)
	if !ok {
		t.Fatalf("a NUL in a secret: %v", err)
	}
	key, err := secrets.NewKey([]byte(text)[:32])
	if err != nil {
		t.Fatal(err)
	}
	prompt, err := inputvalidation.ParsePrompt("prompt", text, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = inputvalidation.ParseModelRef("model", text+"\n")
	refusedText, ok := errors.AsType[*inputvalidation.Error](err)
	if !ok {
		t.Fatalf("a line end in a model: %v", err)
	}
	return map[string]any{
		"authmin.Token": token, "authmin.Key": authmin.Key{Name: "a", Token: token}, "authmin.KeySet": keys, "authmin.Gate": gate, "authmin.Config": authmin.Config{Keys: keys},
		"authmin.Principal": principal, "authmin.Refusal": refusal, "authmin.Event": event, "authmin.KeyInfo": slices.Collect(keys.Keys())[0],
		"authmin.Transport": &authmin.Transport{Token: func(context.Context) (authmin.Token, error) { return token, nil }, Hosts: []string{"a"}},
		"secrets.Secret":    secret, "secrets.Meta": meta, "secrets.Error": fault, "secrets.Key": key,
		"inputvalidation.Prompt": prompt, "inputvalidation.Error": refusedText,
	}
}

// wire makes values whose JSON carries a token to the other side, and which no
// formatter and no logger may show. poolcore.Worker hides it from JSON too.
func wire(text string) map[string]any {
	return map[string]any{
		"poolregistry.Registration": poolregistry.Registration{NodeID: "n", LeaseToken: text},
		"poolregistry.Grant":        poolregistry.Grant{NodeID: "n", LeaseToken: text},
		"poolregistry.Beat":         poolregistry.Beat{NodeID: "n", LeaseToken: text},
		"nodeapi.WorkerAccess":      nodeapi.WorkerAccess{Token: text},
		"orchestrator.WorkerAccess": orchestrator.WorkerAccess{Token: text},
		"poolcore.Worker":           poolcore.Worker{Token: text},
	}
}

// formatters show a value in every way that people use without thinking.
func formatters() map[string]func(v any) string {
	out := map[string]func(any) string{
		"Sprint": func(v any) string { return fmt.Sprint(v) + fmt.Sprintln(v) + fmt.Sprint(&v) },
		"Errorf": func(v any) string { return fmt.Errorf("x: %v", v).Error() },
		"template": func(v any) string {
			return run(texttemplate.Must(texttemplate.New("").Parse(`{{.}} {{printf "%+v" .}} {{print .}}`)).Execute, v)
		},
		"csv": func(v any) string {
			var b strings.Builder
			w := csv.NewWriter(&b)
			_ = w.Write([]string{fmt.Sprint(v), fmt.Sprintf("%#v", v)})
			w.Flush()
			return b.String()
		},
		"log": func(v any) string {
			var b strings.Builder
			l := log.New(&b, "", 0)
			l.Print(v)
			l.Printf("%+v", v)
			return b.String()
		},
	}
	for verb := range strings.FieldsSeq("v +v #v s q x X d t p b c o U e g T +q #q #x 08x -20s .5s") {
		out["%"+verb] = func(v any) string { return fmt.Sprintf("%"+verb, v) }
	}
	for name, handler := range map[string]func(*bytes.Buffer) slog.Handler{
		"slog text": func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
		"slog JSON": func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
	} {
		out[name] = func(v any) string {
			var b bytes.Buffer
			l := slog.New(handler(&b))
			l.With("a", v).WithGroup("g").Info("m", "b", v, slog.Group("c", slog.Any("d", v)))
			return b.String()
		}
	}
	return out
}

// encoders write all that a type does not hide from them.
func encoders() map[string]func(v any) string {
	return map[string]func(any) string{
		"json": func(v any) string { b, err := json.Marshal(v); return string(b) + fmt.Sprint(err) },
		"xml":  func(v any) string { b, err := xml.Marshal(v); return string(b) + fmt.Sprint(err) },
		"gob": func(v any) string {
			var b bytes.Buffer
			err := gob.NewEncoder(&b).Encode(v)
			return b.String() + fmt.Sprint(err)
		},
		"expvar": func(v any) string { return expvar.Func(func() any { return v }).String() },
		"html": func(v any) string {
			return run(htmltemplate.Must(htmltemplate.New("").Parse(`<a title="{{.}}" href="/?q={{.}}">{{.}}</a><script>x = {{.}}</script>`)).Execute, v)
		},
		"reflection": func(v any) string { var b strings.Builder; dump(&b, reflect.ValueOf(v), 0); return b.String() },
	}
}

func run(execute func(io.Writer, any) error, v any) string {
	var b strings.Builder
	err := execute(&b, v)
	return b.String() + fmt.Sprint(err)
}

// dump writes what reflection reaches through exported and other fields.
func dump(b *strings.Builder, v reflect.Value, depth int) {
	if depth > 8 {
		return
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			dump(b, v.Elem(), depth+1)
		}
	case reflect.Struct:
		for _, field := range v.Fields() {
			dump(b, field, depth+1)
		}
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			for i := range v.Len() {
				b.WriteByte(byte(v.Index(i).Uint()))
			}
			return
		}
		for i := range min(v.Len(), 64) {
			dump(b, v.Index(i), depth+1)
		}
	case reflect.Map:
		for _, k := range v.MapKeys() {
			dump(b, k, depth+1)
			dump(b, v.MapIndex(k), depth+1)
		}
	case reflect.String:
		b.WriteString(v.String())
	}
}

// containers put a value where a caller may have it. The last one is a field that
// formatters can not ask for its methods.
func containers(v any) map[string]any {
	typed := reflect.MakeSlice(reflect.SliceOf(reflect.TypeOf(v)), 0, 1)
	typed = reflect.Append(typed, reflect.ValueOf(v))
	record := reflect.New(reflect.StructOf([]reflect.StructField{{Name: "X", Type: reflect.TypeOf(v)}})).Elem()
	record.Field(0).Set(reflect.ValueOf(v))
	pointer := reflect.New(reflect.TypeOf(v))
	pointer.Elem().Set(reflect.ValueOf(v))
	return map[string]any{
		"alone": v, "a pointer": pointer.Interface(), "a slice": typed.Interface(), "any": []any{v}, "a map": map[string]any{"k": v}, "a struct": record.Interface(),
		"two deep": map[string]any{"k": []any{struct{ A any }{v}}}, hidden: struct{ x any }{v},
	}
}

const hidden = "an unexported field"

// TestCanaryFormats proves SEC-3 in the process: no formatter, logger or encoder
// shows what a type that carries a secret holds (AUTH-4, SCR-1, VAL-5).
func TestCanaryFormats(t *testing.T) {
	text := "tok+" + rand.Text() + "/" + rand.Text()
	search := newTrap(canary{"it", text, false})
	show := func(name, where string, v any, by map[string]func(any) string) {
		t.Helper()
		for how, print := range by {
			search.none(t, name+" in "+where+" by "+how, []byte(print(v)))
		}
	}
	for name, v := range sealed(t, text) {
		for where, c := range containers(v) {
			show(name, where, c, formatters())
			show(name, where, c, encoders())
		}
	}
	for name, v := range wire(text) {
		for where, c := range containers(v) {
			if by := formatters(); where != hidden {
				delete(by, "%p") // which asks no value for its methods; only what is behind a function is safe from it
				if where != "alone" && where != "a pointer" {
					delete(by, "slog JSON") // it encodes what stands inside of something as JSON, which is the way to the other side
				}
				show(name, where, c, by)
			}
		}
	}
	if got := search.find([]byte(encoders()["json"](wire(text)["poolcore.Worker"]))); got != nil {
		t.Errorf("poolcore.Worker shows its key in JSON: %v", got)
	}
	if found := search.find(fmt.Appendf(nil, "%+v", struct{ x any }{struct{ T string }{text}})); len(found) == 0 {
		t.Error("a plain struct hides its text: the search finds nothing at all")
	}
	for name, by := range encoders() {
		if got := search.find([]byte(by([]string{text}))); got == nil {
			t.Errorf("%s of a plain text shows nothing: the search is blind", name)
		}
	}
}
