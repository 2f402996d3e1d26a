package catalog_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/llorch/llorch/poolcore/catalog"
)

// tampers are the ways in which a model's file changes on the disk.
func tampers() map[string]func(t *testing.T, file string) {
	return map[string]func(t *testing.T, file string){
		"one byte": func(t *testing.T, file string) { must(t, os.WriteFile(file, tiny(2), 0o600)) },
		"shorter":  func(t *testing.T, file string) { must(t, os.Truncate(file, 100)) },
		"gone":     func(t *testing.T, file string) { must(t, os.Remove(file)) },
		"a link": func(t *testing.T, file string) {
			must(t, os.Rename(file, file+".real"))
			must(t, os.Symlink(file+".real", file))
		},
		"a FIFO": func(t *testing.T, file string) {
			must(t, os.Remove(file))
			must(t, syscall.Mkfifo(file, 0o600))
		},
		"a directory": func(t *testing.T, file string) {
			must(t, os.Remove(file))
			must(t, os.Mkdir(file, 0o700))
		},
		"one more file": func(t *testing.T, file string) {
			must(t, os.WriteFile(filepath.Join(filepath.Dir(file), "extra.py"), []byte("x"), 0o600))
		},
		"one more link": func(t *testing.T, file string) {
			must(t, os.Symlink("/etc", filepath.Join(filepath.Dir(file), "extra")))
		},
	}
}

// PCO-59, G7: verification reads bytes. The time of a changed file is set back, so
// that only its content tells.
func TestVerifyReallyHashes(t *testing.T) {
	dir := quickDir(t)
	c := open(t, catalog.Config{Dir: dir})
	m := add(t, c, ref, tiny(1))
	file := located(t, c, ref)
	var done, total int64
	if v, err := c.Verify(t.Context(), m.ID, func(d, n int64) { done, total = d, n }); v != catalog.Warn || err != nil {
		t.Fatalf("Verify = %s, %v, want warn: nobody stated a digest", v, err)
	}
	if done != m.SizeBytes || total != m.SizeBytes {
		t.Errorf("progress ended at %d of %d, want %d", done, total, m.SizeBytes)
	}
	before, err := os.Stat(file)
	must(t, err)
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt([]byte{9}, m.SizeBytes-1)
	must(t, errors.Join(err, f.Close()))
	must(t, os.Chtimes(file, before.ModTime(), before.ModTime()))
	must(t, second(c.Ready(t.Context(), ref))) // the quick check cannot see it
	v, err := c.Verify(t.Context(), m.ID, nil)
	if v != catalog.Fail || !errors.Is(err, catalog.DigestMismatch) {
		t.Errorf("Verify(changed byte) = %s, %v, want fail", v, err)
	}
	// Quarantine: the entry says so, the file is kept, and nothing starts with it.
	got, _ := c.Get(m.ID)
	kept, err := filepath.Glob(filepath.Join(dir, "quarantine", "*", "tiny.gguf"))
	must(t, err)
	if got.Verification != catalog.Fail || exists(file) || len(kept) != 1 {
		t.Errorf("entry %s, file %v, quarantine %v", got.Verification, exists(file), kept)
	}
	_, err = c.Ready(t.Context(), ref)
	wantCode(t, "Ready(failed)", err, catalog.ModelUnverified)
	_, err = c.Verify(t.Context(), m.ID, nil)
	wantCode(t, "Verify(failed)", err, catalog.ModelUnverified)
	if len(kept) == 1 { // as a crash before the move leaves it
		must(t, os.MkdirAll(filepath.Dir(filepath.Dir(file)), 0o700))
		must(t, os.Rename(filepath.Dir(kept[0]), filepath.Dir(file)))
		_, err = c.Ready(t.Context(), ref)
		wantCode(t, "Ready(failed, still in its place)", err, catalog.ModelUnverified)
	}
	add(t, c, ref, tiny(1))
	must(t, second(c.Ready(t.Context(), ref)))
	_, err = c.Verify(t.Context(), "hf:no/body", nil)
	wantCode(t, "Verify(nobody)", err, catalog.ModelUnknown)
}

// PCO-59: the quick check before a start finds what changed, verifies then, and
// refuses; nothing hangs.
func TestReadyFindsChanges(t *testing.T) {
	for name, tamper := range tampers() {
		t.Run(name, func(t *testing.T) {
			c := open(t, catalog.Config{Dir: quickDir(t)})
			m := add(t, c, ref, tiny(1))
			tamper(t, located(t, c, ref))
			_, err := c.Ready(t.Context(), ref)
			wantCode(t, "Ready", err, catalog.ModelUnverified)
			if got, _ := c.Get(m.ID); got.Verification != catalog.Fail {
				t.Errorf("Verification = %s, want fail", got.Verification)
			}
		})
	}
}

// PCO-59: a file that only looks different, after a restore from a backup, is
// hashed once and then accepted.
func TestReadyAfterRestore(t *testing.T) {
	log, lines := logged()
	c := open(t, catalog.Config{Dir: quickDir(t), Logger: log})
	m := add(t, c, ref, tiny(1))
	file := located(t, c, ref)
	before, err := os.Stat(file)
	must(t, err)
	must(t, os.WriteFile(file+".copy", tiny(1), 0o600))
	must(t, os.Chtimes(file+".copy", before.ModTime(), before.ModTime())) // only the inode tells
	must(t, os.Rename(file+".copy", file))
	for range 2 {
		must(t, second(c.Ready(t.Context(), ref)))
	}
	if n := strings.Count(lines.String(), "looks different"); n != 1 {
		t.Errorf("hashed %d times, want once", n)
	}
	got, _ := c.Get(m.ID)
	if got.Files[0].Inode == m.Files[0].Inode || !got.LastVerifiedAt.After(m.LastVerifiedAt) || got.Verification != catalog.Warn {
		t.Errorf("entry = %+v, want the new inode and time", got)
	}
}

// PCO-59: a verification can be cancelled, and decides nothing then.
func TestVerifyCancelled(t *testing.T) {
	c := open(t, catalog.Config{Dir: quickDir(t)})
	m, err := c.Put(t.Context(), catalog.Put{Ref: "hf:acme/dir", From: write(t, "m.safetensors", safetensors(20<<20))})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	v, err := c.Verify(ctx, m.ID, func(int64, int64) { calls++; cancel() })
	if v != "" || !errors.Is(err, context.Canceled) || calls > 3 {
		t.Errorf("Verify = %q, %v after %d of 5 pieces", v, err, calls)
	}
	if got, _ := c.Get(m.ID); got.Verification != catalog.Warn || !got.LastVerifiedAt.Equal(m.LastVerifiedAt) {
		t.Errorf("entry = %+v, want it as it was", got)
	}
	must(t, c.Remove(t.Context(), m.ID, false)) // the verification holds it no more
}

// PCO-59: while a model is verified it cannot be removed.
func TestVerifyHolds(t *testing.T) {
	c := open(t, catalog.Config{Dir: quickDir(t)})
	m := add(t, c, ref, tiny(1))
	var inside error
	must(t, second(c.Verify(t.Context(), m.ID, func(int64, int64) { inside = c.Remove(t.Context(), m.ID, false) })))
	wantCode(t, "Remove during Verify", inside, catalog.ModelInUse)
}

// PCO-58: a damaged index is put aside, and made anew on request only, by hashing.
func TestRebuild(t *testing.T) {
	dir := quickDir(t)
	c := open(t, catalog.Config{Dir: dir})
	commit := catalog.Source{Repo: "acme/tiny", Revision: strings.Repeat("ab", 20)}
	must(t, second(c.Put(t.Context(), catalog.Put{Ref: ref, From: write(t, "tiny.gguf", tiny(1)), SHA256: sum(tiny(1)), Source: commit})))
	device := catalog.Source{Revision: "con"}
	must(t, second(c.Put(t.Context(), catalog.Put{Ref: "file:b.gguf", From: write(t, "b.gguf", tiny(2)), Source: device})))
	add(t, c, "file:swapped.gguf", tiny(3))
	must(t, os.WriteFile(located(t, c, "file:swapped.gguf"), tiny(4), 0o600))
	linked := filepath.Dir(filepath.Dir(located(t, c, ref)))
	must(t, os.Symlink(linked, filepath.Join(dir, "models", "hf_3ax_2fy")))
	must(t, os.Mkdir(filepath.Join(dir, "models", "~unknown"), 0o700))
	before := c.List()
	must(t, c.Close())
	index := filepath.Join(dir, "index.json")
	must(t, os.WriteFile(index, []byte(`{"schema":1,"models":[{`), 0o600))
	for range 3 { // also when the damaged one is no longer in its place
		_, err := catalog.Open(t.Context(), catalog.Config{Dir: dir})
		wantCode(t, "Open(damaged)", err, catalog.ErrDamaged)
	}
	bad, err := filepath.Glob(index + ".bad-*")
	must(t, err)
	if len(bad) != 1 || exists(index) {
		t.Fatalf("put aside %v, index %v, want one copy and none", bad, exists(index))
	}
	c = open(t, catalog.Config{Dir: dir, Rebuild: true})
	after := c.List()
	if len(after) != 2 {
		t.Fatalf("rebuilt %s, want the two whose content is what its place says", asJSON(t, after))
	}
	for _, m := range after {
		i := slices.IndexFunc(before, func(b catalog.Model) bool { return b.ID == m.ID })
		if m.Verification != catalog.Warn || m.Digest != before[i].Digest || m.Source.Revision != before[i].Source.Revision {
			t.Errorf("rebuilt %+v, want the content of %+v and a warning", m, before[i])
		}
		must(t, second(c.Ready(t.Context(), m.Ref)))
	}
}
