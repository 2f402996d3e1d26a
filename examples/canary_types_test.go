package examples_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"go/ast"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/llorch/llorch/authmin"
	"github.com/llorch/llorch/examples/internal/server"
	"github.com/llorch/llorch/narration"
)

// bare are the exported types that carry a secret or a prompt as plain text, each
// with its reason. No program prints one; TestCanaries looks at what they do print.
func bare() map[string]string {
	const between = "handed from one call to the next, for whoever writes an adapter; nothing prints it"
	return map[string]string{
		"worker.Target":       between,
		"worker.Job":          between,
		"engine.Endpoint":     between,
		"orchestrator.Spec":   between,
		"orchestrator.Config": "keys of 32 bytes, copied by New; nothing prints it",
		"secrets.Config":      "names of credentials, not what they hold",
		"taskapi.Submit":      "the body of a request: its JSON is its purpose; nothing prints it",
	}
}

// TestCanaryTypes lists every exported struct with a field that holds a secret or
// a prompt as text or bytes: it hides it and is tried above, or says why not.
func TestCanaryTypes(t *testing.T) {
	w := loadWorkspace(t)
	tried := slices.Collect(maps.Keys(wire("")))
	reasons := bare()
	seen := map[string]bool{}
	for _, s := range w.files {
		if s.test() || s.helper() || strings.Contains(s.dir+"/", "/internal/") {
			continue
		}
		for _, d := range s.ast.Decls {
			gen, ok := d.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, spec := range gen.Specs {
				typ, ok := spec.(*ast.TypeSpec)
				if !ok || !typ.Name.IsExported() {
					continue
				}
				name := s.ast.Name.Name + "." + typ.Name.Name
				if field := secretField(typ.Type); field != "" {
					seen[name] = true
					if !slices.Contains(tried, name) && reasons[name] == "" {
						t.Errorf("%s: %s.%s is a secret in clear: hide it and add the type to the values of this test", w.line(typ), name, field)
					}
				}
			}
		}
	}
	for _, name := range append(tried, slices.Collect(maps.Keys(reasons))...) {
		if !seen[name] {
			t.Errorf("%s has no such field any more", name)
		}
	}
}

// secretField names a field of a struct that holds a secret or a prompt in clear.
func secretField(e ast.Expr) string {
	st, ok := e.(*ast.StructType)
	if !ok {
		return ""
	}
	for _, f := range st.Fields.List {
		for _, id := range f.Names {
			w := words(id.Name)
			says := secretName(id.Name) || slices.Contains(w, "prompt") && len(w) == 1 || slices.Equal(w, []string{"seal", "keys"})
			if says && inClear(f.Type) {
				return id.Name
			}
		}
	}
	return ""
}

// inClear reports whether a type is text or bytes, or a list or map of such.
func inClear(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name == "string" || e.Name == "byte"
	case *ast.SelectorExpr:
		return e.Sel.Name == "RawMessage"
	case *ast.ArrayType:
		return e.Len == nil && inClear(e.Elt) // an array is a digest
	case *ast.MapType:
		return inClear(e.Value)
	case *ast.StarExpr:
		return inClear(e.X)
	}
	return false
}

// TestCanaryPanics: a handler that panics with a secret, in either format.
func TestCanaryPanics(t *testing.T) {
	text := rand.Text() + "/" + rand.Text()
	token, err := authmin.ParseToken(text)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := authmin.NewKeySet(authmin.Key{Name: "a", Token: token})
	if err != nil {
		t.Fatal(err)
	}
	for name, open := range map[string]func(*bytes.Buffer) (*narration.Narrator, error){
		"json": func(b *bytes.Buffer) (*narration.Narrator, error) {
			return narration.NewJSON(b, narration.Config{Service: "x", Level: slog.LevelDebug})
		},
		"text": func(b *bytes.Buffer) (*narration.Narrator, error) {
			return narration.NewConsole(b, narration.Config{Service: "x", Level: slog.LevelDebug})
		},
	} {
		var b bytes.Buffer
		n, err := open(&b)
		if err != nil {
			t.Fatal(err)
		}
		h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { panic(errors.New("lost " + r.URL.Query().Get("prompt"))) })
		srv, err := server.New(server.Config{Narrator: n, Keys: keys}, []server.Route{{Method: "GET", Path: "/p", Owner: "x", Auth: server.Token, Handler: h}})
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequestWithContext(t.Context(), "GET", "http://127.0.0.1/p?prompt="+text, nil)
		r.Header.Set("Authorization", "Bearer "+text)
		w := httptest.NewRecorder()
		srv.Handler.ServeHTTP(w, r)
		if w.Code != http.StatusInternalServerError || !strings.Contains(b.String(), "panicked") {
			t.Errorf("%s: %d, log %s", name, w.Code, &b)
		}
		newTrap(canary{"it", text, true}).none(t, name, append(b.Bytes(), w.Body.Bytes()...))
	}
}
