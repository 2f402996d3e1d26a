package catalog_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/poolcore/catalog"
)

const writerWord = "index-writer"

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == writerWord {
		os.Exit(indexWriter(os.Args[2]))
	}
	os.Exit(m.Run())
}

// indexWriter changes a catalogue until it is killed. It prints each step that is
// done for certain.
func indexWriter(dir string) int {
	ctx, top := context.Background(), filepath.Dir(dir)
	c, err := catalog.Open(ctx, catalog.Config{Dir: dir, FreeSpace: plenty})
	if err != nil {
		os.Stdout.WriteString("error " + err.Error() + "\n")
		return 1
	}
	for i := 0; ; i++ {
		name := "file:" + strconv.Itoa(i%5) + ".gguf"
		if _, err := c.Put(ctx, catalog.Put{Ref: name, From: filepath.Join(top, strconv.Itoa(i%2)+".gguf")}); err != nil {
			os.Stdout.WriteString("error " + err.Error() + "\n")
			return 1
		}
		os.Stdout.WriteString("there " + strconv.Itoa(i) + "\n")
		if i%3 == 2 {
			if err := c.Remove(ctx, name, false); err != nil {
				os.Stdout.WriteString("error " + err.Error() + "\n")
				return 1
			}
			os.Stdout.WriteString("gone " + strconv.Itoa(i) + "\n")
		}
	}
}

// PCO-58: after kill -9 at any moment the index is the old or the new one, every
// entry starts, and what was acknowledged is there.
func TestIndexAtomic(t *testing.T) {
	top := quickDir(t)
	dir := filepath.Join(top, "models")
	for i := range 2 {
		must(t, os.WriteFile(filepath.Join(top, strconv.Itoa(i)+".gguf"), tiny(byte(i)), 0o600))
	}
	rounds := 12
	if os.Getenv("LLORCH_NIGHTLY") != "" {
		rounds = 500
	}
	for range rounds {
		said, open := writeAndKill(t, dir)
		if len(said) == 0 {
			t.Error("the writer did nothing")
		}
		c, err := catalog.Open(t.Context(), catalog.Config{Dir: dir, FreeSpace: plenty})
		if err != nil {
			t.Fatalf("Open after kill: %v", err)
		}
		for _, m := range c.List() {
			if _, err := c.Ready(t.Context(), m.Ref); err != nil {
				t.Errorf("Ready(%s) after kill = %v", m.ID, err)
			}
		}
		for model, step := range said {
			m, ok := c.Get("file:" + strconv.Itoa(model) + ".gguf")
			switch {
			case model == open: // the change that was under way may have happened
			case ok != (step >= 0):
				t.Errorf("model %d: acknowledged %d, entry %v", model, step, ok)
			case ok && m.Files[0].SHA256 != sum(tiny(byte(step%2))):
				t.Errorf("model %d: acknowledged %d, another content", model, step)
			}
		}
		must(t, c.Close())
	}
}

// PCO-58: the index is replaced, not written over: who has the old one open reads it
// to its end.
func TestIndexAtomicReplaced(t *testing.T) {
	dir := quickDir(t)
	c := open(t, catalog.Config{Dir: dir})
	m := add(t, c, ref, tiny(1))
	at := filepath.Join(dir, "index.json")
	old, err := os.ReadFile(at)
	must(t, err)
	must(t, os.Link(at, at+".same"))
	must(t, c.SetState(m.ID, catalog.Retired, time.Time{}))
	kept, err := os.ReadFile(at + ".same")
	must(t, err)
	now, err := os.ReadFile(at)
	must(t, err)
	if !bytes.Equal(kept, old) || bytes.Equal(now, old) {
		t.Errorf("the old file changed %v, the new one is new %v", !bytes.Equal(kept, old), !bytes.Equal(now, old))
	}
}

func plenty(string) (uint64, error) { return 1 << 50, nil }

// writeAndKill runs a writer for a random time. It returns, by model, the step that
// was acknowledged last, −1 for a removal, and the model of the step after it.
func writeAndKill(t *testing.T, dir string) (said map[int]int, open int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], writerWord, dir)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	stopAfter, n := rand.IntN(20), 0
	said = map[int]int{}
	for lines := bufio.NewScanner(out); lines.Scan(); n++ {
		word, rest, _ := strings.Cut(lines.Text(), " ")
		step, err := strconv.Atoi(rest)
		if err != nil {
			t.Fatal(lines.Text())
		}
		said[step%5], open = step, (step+1)%5
		if word == "gone" {
			said[step%5] = -1
		} else if step%3 == 2 {
			open = step % 5
		}
		if n == stopAfter {
			_ = cmd.Process.Kill() // at a moment that the scheduler chooses; more lines may come
		}
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != -1 {
		t.Fatalf("the writer ended by itself: %v", err)
	}
	return said, open
}

// PCO-58: the directory has one owner.
func TestLocked(t *testing.T) {
	dir := t.TempDir()
	c := open(t, catalog.Config{Dir: dir})
	_, err := catalog.Open(t.Context(), catalog.Config{Dir: dir})
	wantCode(t, "Open(owned)", err, catalog.ErrLocked)
	must(t, c.Close())
	must(t, c.Close())
	open(t, catalog.Config{Dir: dir})
	_, err = c.Use("hf:a/b")
	wantCode(t, "Use(closed)", err, catalog.Closed)
	_, err = catalog.Open(t.Context(), catalog.Config{})
	wantCode(t, "Open(no Dir)", err, catalog.InvalidParams)
}

// index returns a valid index with one model, for changes.
func index(t testing.TB) []byte {
	t.Helper()
	dir := quickDir(t)
	c := open(t, catalog.Config{Dir: dir})
	add(t, c, ref, tiny(1))
	must(t, c.Close())
	raw, err := os.ReadFile(filepath.Join(dir, "index.json"))
	must(t, err)
	return raw
}

// reopen opens a catalogue that has this index.
func reopen(t testing.TB, raw []byte) (string, []catalog.Model, error) {
	t.Helper()
	dir := quickDir(t)
	must(t, os.WriteFile(filepath.Join(dir, "index.json"), raw, 0o600))
	c, err := catalog.Open(t.Context(), catalog.Config{Dir: dir})
	if err != nil {
		return dir, nil, err
	}
	defer c.Close()
	return dir, c.List(), nil
}

// PCO-57: what no release writes is refused, and a newer schema is not touched.
func TestIndexRefused(t *testing.T) {
	raw := index(t)
	if _, models, err := reopen(t, raw); err != nil || len(models) != 1 {
		t.Fatalf("Open(as written) = %v, %v", models, err)
	}
	newer := bytes.Replace(raw, []byte(`"schema": 1`), []byte(`"schema": 2`), 1)
	dir, _, err := reopen(t, newer)
	wantCode(t, "Open(newer)", err, catalog.ErrNewer)
	if got, err := os.ReadFile(filepath.Join(dir, "index.json")); err != nil || !bytes.Equal(got, newer) {
		t.Errorf("the newer index was touched: %v", err)
	}
	for name, change := range map[string][2]string{
		"no schema":         {`"schema": 1`, `"schemas": 1`},
		"type":              {`"size_bytes": `, `"size_bytes": "x`},
		"id that leaves":    {`"id": "hf:acme/tiny@`, `"id": "../../@`},
		"alias":             {ref, "tiny"},
		"verification":      {`"warn"`, `"verified"`},
		"format":            {`"format": "gguf"`, `"format": "onnx"`},
		"file that leaves":  {`"path": "tiny.gguf"`, `"path": "../tiny.gguf"`},
		"absolute file":     {`"path": "tiny.gguf"`, `"path": "/tiny.gguf"`},
		"digest":            {`"digest": "sha256:`, `"digest": "sha256:0`},
		"a digest's letter": {`"sha256": "`, `"sha256": "A`},
		"negative size":     {`"size_bytes": `, `"size_bytes": -`},
		"context":           {`"ctx_max": 2048`, `"ctx_max": -1`},
		"terminal codes":    {`"architecture": "llama"`, `"architecture": "\u001b[2J"`},
		"two names":         {`"tags": []`, `"tags": [], "tags": []`},
		"cut":               {"\n", ""},
		"no models":         {`"models": [`, `"model": [`},
		"something behind":  {"\n}", "\n}}"},
		"no files":          {`"files": [`, `"files": [], "x": [`},
	} {
		t.Run(name, func(t *testing.T) {
			bad := bytes.Replace(raw, []byte(change[0]), []byte(change[1]), 1)
			if name == "cut" {
				bad = raw[:len(raw)/2]
			}
			if bytes.Equal(bad, raw) {
				t.Fatal("the change changes nothing")
			}
			_, _, err := reopen(t, bad)
			wantCode(t, "Open", err, catalog.ErrDamaged)
			if err != nil && (strings.Contains(err.Error(), "tiny") || strings.Contains(err.Error(), "\x1b")) {
				t.Errorf("%v shows content", err)
			}
		})
	}
}

// PCO-56, PCO-57: an index whose digests are right is still not believed.
func TestIndexForged(t *testing.T) {
	for name, forge := range map[string]func(m *catalog.Model){
		"file that leaves": func(m *catalog.Model) { m.Files[0].Path = "../tiny.gguf" },
		"absolute file":    func(m *catalog.Model) { m.Files[0].Path = "/etc/passwd" },
		"id that leaves":   func(m *catalog.Model) { m.ID = "../x" },
		"reference":        func(m *catalog.Model) { m.ID, m.Ref = "../x", "../x" },
		"another id":       func(m *catalog.Model) { m.ID = "hf:acme/other" },
		"size":             func(m *catalog.Model) { m.SizeBytes++ },
		"no files":         func(m *catalog.Model) { m.Files, m.SizeBytes = nil, 0 },
		"too many tags":    func(m *catalog.Model) { m.Tags = make([]string, 65) },
	} {
		models, err := catalog.ParseIndex(index(t))
		must(t, err)
		forge(&models[0])
		models[0].Digest = catalog.DigestOf(models[0].Files)
		raw, err := catalog.EncodeIndex(models, time.Now())
		must(t, err)
		_, _, err = reopen(t, raw)
		wantCode(t, "Open("+name+")", err, catalog.ErrDamaged)
	}
}

// Something else in the place of the index is refused, and nothing waits for it.
func TestIndexIsAFile(t *testing.T) {
	for _, name := range []string{"index.json", "lock", "models"} {
		dir := t.TempDir()
		must(t, os.Symlink("/etc/passwd", filepath.Join(dir, name)))
		if c, err := catalog.Open(t.Context(), catalog.Config{Dir: dir}); err == nil {
			t.Errorf("Open with a link as %s = %v", name, c)
		}
	}
}

func FuzzIndexJSON(f *testing.F) {
	raw := index(f)
	f.Add(raw)
	f.Add([]byte(`{"schema":1,"models":[]}`))
	f.Add([]byte(`{"schema":1}`))
	f.Add([]byte(`{"schema":2}`))
	f.Add(raw[:100])
	f.Fuzz(func(t *testing.T, raw []byte) {
		models, err := catalog.ParseIndex(raw)
		if err != nil {
			if !errors.Is(err, catalog.ErrDamaged) && !errors.Is(err, catalog.ErrNewer) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		for _, m := range models {
			if m.State != catalog.Active && m.State != catalog.Retired {
				t.Fatalf("state %q was accepted", m.State)
			}
			for _, file := range m.Files {
				if _, err := inputvalidation.ParseRelPath("path", catalog.Dir(m)+"/"+file.Path); err != nil && len(file.Path) < 3000 {
					t.Fatalf("path of %q: %v", file.Path, err)
				}
			}
		}
		again, err := catalog.EncodeIndex(models, time.Unix(0, 0))
		if err != nil {
			t.Fatal(err)
		}
		twice, err := catalog.ParseIndex(again)
		if err != nil || asJSON(t, twice) != asJSON(t, models) {
			t.Fatalf("written and read again: %v", err)
		}
	})
}

// The same index is written byte for byte again, so that a person can compare two.
func TestIndexStable(t *testing.T) {
	raw := index(t)
	models, err := catalog.ParseIndex(raw)
	must(t, err)
	var head struct {
		UpdatedAt time.Time `json:"updated_at"`
	}
	must(t, json.Unmarshal(raw, &head))
	if again, err := catalog.EncodeIndex(models, head.UpdatedAt); err != nil || !bytes.Equal(again, raw) {
		t.Errorf("encoded again, %v:\n%s\nwas\n%s", err, again, raw)
	}
}
