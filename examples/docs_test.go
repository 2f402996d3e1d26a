package examples_test

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/llorch/llorch/examples/internal/config"
	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/poolcore"
)

// document reads a file of the workspace.
func document(t *testing.T, name string) string {
	t.Helper()
	loadWorkspace(t) // skips where there is none
	b, err := os.ReadFile(filepath.Join(parent, filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// blocks returns the fenced blocks of a page in one language.
func blocks(page, language string) (out []string) {
	for _, part := range strings.Split(page, "\n```"+language+"\n")[1:] {
		text, _, _ := strings.Cut(part, "\n```")
		out = append(out, text+"\n")
	}
	return out
}

// TestConfigurationPage proves CFG-1 for docs/configuration.md. With
// LLORCH_UPDATE it writes the page.
func TestConfigurationPage(t *testing.T) {
	const name = "docs/configuration.md"
	loadWorkspace(t)
	if os.Getenv("LLORCH_UPDATE") != "" {
		if err := os.WriteFile(filepath.Join(parent, filepath.FromSlash(name)), []byte(config.Markdown()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if document(t, name) != config.Markdown() {
		t.Errorf("%s is not what the table says; write it again with LLORCH_UPDATE=1", name)
	}
}

// TestKeysAreRead looks for the use of every key in the sources that build the
// program: a key that nobody reads would be a lie.
func TestKeysAreRead(t *testing.T) {
	w := loadWorkspace(t)
	uses := map[string][]string{
		config.Orchestratord: {"examples/internal/assemble/durable", "examples/internal/assemble/program.go", "examples/internal/assemble/tokens.go"},
		config.PoolManagerd:  {"examples/internal/assemble/daemon.go", "examples/internal/assemble/models.go", "examples/internal/assemble/program.go", "examples/internal/assemble/tokens.go"},
	}
	for prog, names := range uses {
		var text strings.Builder
		for _, s := range w.files {
			if !s.test() && (slices.Contains(names, s.name) || slices.Contains(names, s.dir)) {
				text.Write(s.text)
			}
		}
		for _, v := range config.Table() {
			use := fmt.Sprintf("(%q)", v.Key)
			if v.Secret() {
				use = fmt.Sprintf("= %q\n", v.Env)
			}
			if slices.Contains(v.Programs, prog) && v.Key != "config" && !strings.Contains(text.String(), use) {
				t.Errorf("%s: nobody reads %s", prog, v.Key)
			}
		}
	}
}

// TestReadmeProgram proves DOC-1: the program that the README shows is the one
// that is compiled and tested.
func TestReadmeProgram(t *testing.T) {
	shown := blocks(document(t, "README.md"), "go")
	if len(shown) != 1 || !strings.Contains(document(t, "examples/embed/main.go"), "\n"+shown[0]) {
		t.Errorf("the README shows %d programs; want one, as in examples/embed/main.go", len(shown))
	}
	if n := strings.Count(document(t, "README.md"), "\n"); n > 150 {
		t.Errorf("the README has %d lines, want at most 150", n)
	}
}

// TestReadmeCommands loads the configuration of every daemon that the README
// starts, with the file that it shows.
func TestReadmeCommands(t *testing.T) {
	page := document(t, "README.md")
	files := blocks(page, "toml")
	if len(files) != 1 {
		t.Fatalf("%d TOML files in the README, want one", len(files))
	}
	read := func(name string) ([]byte, error) {
		if name == "pools.toml" {
			return []byte(files[0]), nil
		}
		return nil, fs.ErrNotExist
	}
	started := map[string]int{}
	for _, block := range blocks(page, "sh") {
		for line := range strings.Lines(block) {
			rest, ok := strings.CutPrefix(line, "go run ./examples/cmd/")
			if !ok {
				continue
			}
			args := strings.Fields(strings.TrimSuffix(strings.TrimSpace(rest), "&"))
			r, err := config.Load(args[0], args[1:], []string{"HOME=/home/ada"}, read)
			if err != nil {
				t.Errorf("%s: %v", strings.TrimSpace(line), err)
				continue
			}
			started[args[0]]++
			var pools []poolcore.PoolConfig
			if err := r.Pools(&pools); err != nil || args[0] == config.PoolManagerd && len(pools) != 1 {
				t.Errorf("%s: pools %v, %v", strings.TrimSpace(line), pools, err)
			}
		}
	}
	if started[config.Orchestratord] == 0 || started[config.PoolManagerd] == 0 {
		t.Errorf("the README starts %v, want both daemons", started)
	}
	for _, target := range regexp.MustCompile("make [a-z]+").FindAllString(page+document(t, "CONTRIBUTING.md"), -1) {
		if !strings.Contains(document(t, "Makefile"), "\n"+strings.TrimPrefix(target, "make ")+":") {
			t.Errorf("%s: no such target", target)
		}
	}
}

// TestModuleTable proves that README and Makefile name every module, the
// Makefile each after those that it imports.
func TestModuleTable(t *testing.T) {
	w := loadWorkspace(t)
	page := document(t, "README.md")
	_, order, _ := strings.Cut(document(t, "Makefile"), "\nORDER := ")
	order, _, _ = strings.Cut(strings.ReplaceAll(order, "\\\n", " "), "\n")
	names := strings.Fields(order)
	for _, m := range w.modules {
		if n := strings.Count(page, "\n| ["+m+"]("+m+") | "); n != 1 {
			t.Errorf("the README's table has %d rows for %s", n, m)
		}
		for _, file := range []string{"README.md", "CHANGELOG.md", "LICENSE", "go.mod"} {
			if _, err := os.Stat(filepath.Join(parent, filepath.FromSlash(m), file)); err != nil {
				t.Errorf("%s has no %s", m, file)
			}
		}
		for _, s := range policies()[m].siblings {
			if slices.Index(names, s) > slices.Index(names, m) {
				t.Errorf("Makefile: %s stands before %s, which it imports", m, s)
			}
		}
	}
	if len(names) != len(w.modules) {
		t.Errorf("Makefile: ORDER has %d modules, go.work %d", len(names), len(w.modules))
	}
}

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// TestLinks proves DOC-7's last part: what a page links to in this repository is there.
func TestLinks(t *testing.T) {
	loadWorkspace(t)
	pages := 0
	err := fs.WalkDir(os.DirFS(parent), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "node_modules"):
			return fs.SkipDir
		case d.IsDir() || path.Ext(name) != ".md":
			return nil
		}
		pages++
		for _, m := range link.FindAllStringSubmatch(document(t, name), -1) {
			target, _, _ := strings.Cut(m[1], "#")
			if target == "" || strings.Contains(target, "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(parent, filepath.FromSlash(path.Join(path.Dir(name), target)))); err != nil {
				t.Errorf("%s links to %s, which is not there", name, m[1])
			}
		}
		return nil
	})
	if err != nil || pages < 20 {
		t.Errorf("%d pages, %v", pages, err)
	}
}

// section returns the table rows beneath a heading, each as its cells.
func section(page, heading string) (rows [][]string) {
	_, text, _ := strings.Cut(page, "\n## "+heading+"\n")
	text, _, _ = strings.Cut(text, "\n## ")
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if cells := strings.Split(strings.Trim(line, "|"), "|"); strings.HasPrefix(line, "| ") && strings.TrimSpace(cells[0]) != "from" {
			for i := range cells {
				cells[i] = strings.TrimSpace(cells[i])
			}
			rows = append(rows, cells)
		}
	}
	return rows
}

// TestStateMachines proves DOC-6's tables: the pages say what the code says.
func TestStateMachines(t *testing.T) {
	page := document(t, "docs/state-machines.md")
	rows := section(page, "Task")
	if len(rows) != len(store.States()) {
		t.Fatalf("%d rows for %d states of a task", len(rows), len(store.States()))
	}
	for i, from := range store.States() {
		var to []string
		for _, s := range store.States() {
			if store.CanMove(from, s) {
				to = append(to, string(s))
			}
		}
		slices.Sort(to)
		want := []string{string(from), strings.Join(to, ", ")}
		if len(to) == 0 {
			want[1] = "–"
		}
		if !slices.Equal(rows[i], want) {
			t.Errorf("task: the page says %q, the code %q", rows[i], want)
		}
	}

	// The package comment of poolregistry is compared with its code by a test there.
	comment := document(t, "poolregistry/doc.go")
	_, comment, _ = strings.Cut(comment, "//\tfrom ")
	comment, _, _ = strings.Cut(comment, "\n//\n")
	var want [][]string
	for _, line := range strings.Split(comment, "\n")[1:] {
		want = append(want, strings.Fields(strings.TrimPrefix(line, "//")))
	}
	if got := section(page, "Node"); len(want) < 10 || !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("node: the page says %q, the code %q", got, want)
	}
}

// TestEscapeVectors proves that the leaves which keep a copy of the escaping rule
// are held to the same vectors.
func TestEscapeVectors(t *testing.T) {
	want := document(t, "inputvalidation/testdata/escape.tsv")
	for _, leaf := range []string{"audit", "narration"} {
		if document(t, leaf+"/testdata/escape.tsv") != want {
			t.Errorf("%s/testdata/escape.tsv differs from that of inputvalidation", leaf)
		}
	}
}
