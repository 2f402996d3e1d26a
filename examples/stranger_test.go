package examples_test

import (
	"debug/buildinfo"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// stranger is somebody else's program that uses one module and nothing more.
type stranger struct {
	main string
	out  string // what it prints
}

func strangers() map[string]stranger {
	return map[string]stranger{
		"authmin": {`package main

import (
	"context"
	"fmt"
	"log"
	"net/http"

	"github.com/llorch/llorch/authmin"
)

func main() {
	tok := authmin.Generate("demo")
	keys, err := authmin.NewKeySet(authmin.Key{Name: "laptop", Token: tok})
	if err != nil {
		log.Fatal(err)
	}
	gate, err := authmin.New(authmin.Config{Keys: keys})
	if err != nil {
		log.Fatal(err)
	}
	ln, err := authmin.BindPolicy{}.Listen(context.Background(), "tcp", "127.0.0.1:0", keys.Len() > 0)
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(ln, gate.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, _ := authmin.PrincipalFrom(r.Context())
		w.Header().Set("Name", p.Name)
	})))
	with := &http.Client{Transport: &authmin.Transport{
		Token: func(context.Context) (authmin.Token, error) { return tok, nil },
		Hosts: []string{ln.Addr().String()},
	}}
	for _, c := range []*http.Client{http.DefaultClient, with} {
		resp, err := c.Get("http://" + ln.Addr().String())
		if err != nil {
			log.Fatal(err)
		}
		resp.Body.Close()
		fmt.Println(resp.StatusCode, resp.Header.Get("Name"))
	}
}
`, "401 \n200 laptop\n"},
		"inputvalidation": {`package main

import (
	"fmt"
	"log"
	"os"

	"github.com/llorch/llorch/inputvalidation"
)

func main() {
	fmt.Println(inputvalidation.CheckIdentifier("name", "../etc", inputvalidation.IdentRules{}))
	fmt.Println(inputvalidation.CheckJSON("body", []byte("{} {}"), 0) != nil)
	fmt.Println(inputvalidation.Escape("curl\x1b[2J\nforged"))
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	tree, err := inputvalidation.OpenTree(dir, inputvalidation.TreeConfig{})
	if err != nil {
		log.Fatal(err)
	}
	defer tree.Close()
	p, err := inputvalidation.ParseRelPath("path", "a.json")
	if err != nil {
		log.Fatal(err)
	}
	if err := tree.WriteFile(p, []byte("{}"), 0o600); err != nil {
		log.Fatal(err)
	}
	data, err := tree.ReadFile(p, 100)
	fmt.Println(string(data), err)
}
`, "name: has a character that is not allowed at byte 0\ntrue\ncurl\\x1b[2J\\nforged\n{} <nil>\n"},
		"secrets": {`package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/llorch/llorch/secrets"
)

func main() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "token")
	if err := os.WriteFile(path, []byte("a-token-that-nobody-sees\n"), 0o600); err != nil {
		log.Fatal(err)
	}
	os.Setenv("STRANGER_TOKEN_FILE", path)
	src, err := secrets.NewSource(secrets.Config{})
	if err != nil {
		log.Fatal(err)
	}
	token, meta, err := src.Load(context.Background(), "STRANGER_TOKEN")
	fmt.Println(token, meta.Origin, err)
	key, err := secrets.DeriveKey(token, nil, "stranger-v1")
	fmt.Println(key, err)
}
`, "[REDACTED] file <nil>\n[REDACTED] <nil>\n"},
		"deadline": {`package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/llorch/llorch/deadline"
)

func main() {
	m, err := deadline.New(deadline.Config{Default: 5 * time.Minute, Max: 30 * time.Minute})
	if err != nil {
		log.Fatal(err)
	}
	slow := httptest.NewServer(m.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if d, ok := deadline.From(r.Context()); ok && d.Remaining() <= 30*time.Millisecond {
			<-r.Context().Done()
		}
	})))
	defer slow.Close()
	client := &http.Client{Transport: &deadline.Transport{}}
	front := httptest.NewServer(m.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		req, _ := http.NewRequestWithContext(r.Context(), http.MethodGet, slow.URL, nil)
		resp, err := client.Do(req)
		if err != nil {
			<-r.Context().Done()
			return
		}
		defer resp.Body.Close()
		w.WriteHeader(resp.StatusCode)
		io.Copy(w, resp.Body)
	})))
	defer front.Close()
	for _, ms := range []string{"60000", "30", "soon"} {
		req, _ := http.NewRequest(http.MethodGet, front.URL, nil)
		req.Header.Set("X-Request-Timeout-Ms", ms)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			log.Fatal(err)
		}
		resp.Body.Close()
		fmt.Println(resp.Status)
	}
}
`, "200 OK\n504 Gateway Timeout\n400 Bad Request\n"},
	}
}

// TestStrangers builds and runs a program outside of the repository for each of
// the small modules, which it gets from a module proxy like any other. Nothing
// but that one module and the standard library is linked.
func TestStrangers(t *testing.T) {
	t.Parallel()
	loadWorkspace(t)
	whole(t)
	env := outsider(t)
	for module, s := range strangers() {
		t.Run(module, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range map[string]string{
				"go.mod":  "module stranger.example/program\n\ngo 1.26.5\n\nrequire " + root + module + " v0.1.0\n",
				"main.go": s.main,
			} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			output := func(name string, args ...string) string {
				t.Helper()
				cmd := exec.CommandContext(t.Context(), name, args...)
				cmd.Dir, cmd.Env = dir, env
				var errs strings.Builder
				cmd.Stderr = &errs
				out, err := cmd.Output()
				if err != nil {
					t.Fatalf("%s %q: %v\n%s", name, args, err, &errs)
				}
				return string(out)
			}
			prog := filepath.Join(dir, "program")
			output("go", "build", "-o", prog, ".")
			if got := output(prog); got != s.out {
				t.Errorf("printed %q, want %q", got, s.out)
			}
			linked := strings.Fields(output("go", "list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", "."))
			slices.Sort(linked)
			if want := []string{root + module, "stranger.example/program"}; !slices.Equal(slices.Compact(linked), want) {
				t.Errorf("packages of %q, want %q", linked, want)
			}
			info, err := buildinfo.ReadFile(prog)
			if err != nil {
				t.Fatal(err)
			}
			if len(info.Deps) != 1 || info.Deps[0].Path != root+module || info.Deps[0].Sum == "" || info.Deps[0].Replace != nil {
				t.Errorf("linked %v, want one module from a proxy", info.Deps)
			}
		})
	}
}

// outsider returns the environment of somebody without this workspace, whose
// proxy has every module of this tree as v0.1.0. The tree changes under that
// version, so neither the module cache nor its index may be an old one.
func outsider(t *testing.T) []string {
	t.Helper()
	dir := t.TempDir()
	proxy := filepath.Join(dir, "proxy")
	publish := exec.CommandContext(t.Context(), "go", "run", "./internal/modproxy", "-work", filepath.Join(parent, "go.work"), "-o", proxy, "-version", "v0.1.0")
	if out, err := publish.CombinedOutput(); err != nil {
		t.Fatalf("publish the tree: %v\n%s", err, out)
	}
	settings, err := exec.CommandContext(t.Context(), "go", "env", "GOFLAGS", "GOMODCACHE", "GOPROXY").Output()
	lines := strings.Split(string(settings), "\n")
	if err != nil || len(lines) < 3 {
		t.Fatalf("go env: %q, %v", settings, err)
	}
	url := func(path string) string { return "file://" + filepath.ToSlash(path) }
	return append(os.Environ(), "GOWORK=off", "GODEBUG=goindex=0",
		"GOFLAGS="+strings.TrimSpace(lines[0]+" -mod=mod -modcacherw"),
		"GOMODCACHE="+filepath.Join(dir, "mod"),
		"GONOSUMDB="+root+"*",
		"GOPROXY="+strings.Join([]string{url(proxy), url(filepath.Join(lines[1], "cache", "download")), lines[2]}, ","))
}
