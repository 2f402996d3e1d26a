//go:build unix

package inputvalidation_test

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/llorch/llorch/inputvalidation"
)

// faultyDir lets one step fail, or dies before it: then nothing more reaches
// the disk, the removal of the temporary file included.
type faultyDir struct {
	inputvalidation.WriteDir
	step, failAt int
	dies         bool
	dead         bool
	log          []string
}

func (d *faultyDir) next(what string) error {
	d.step++
	d.log = append(d.log, what)
	if d.dead || d.step == d.failAt {
		d.dead = d.dead || d.dies
		return &fs.PathError{Op: what, Path: "secret-path", Err: syscall.EIO}
	}
	return nil
}

func (d *faultyDir) Lstat(name string) (fs.FileInfo, error) {
	if err := d.next("lstat"); err != nil {
		return nil, err
	}
	return d.WriteDir.Lstat(name)
}

func (d *faultyDir) Create(name string, perm fs.FileMode) (inputvalidation.WriteHandle, error) {
	if err := d.next("create"); err != nil {
		return nil, err
	}
	f, err := d.WriteDir.Create(name, perm)
	return &faultyFile{f, d}, err
}

func (d *faultyDir) Rename(from, to string) error {
	if err := d.next("rename"); err != nil {
		return err
	}
	return d.WriteDir.Rename(from, to)
}

func (d *faultyDir) Remove(name string) error {
	if d.dead {
		return syscall.EIO
	}
	return d.WriteDir.Remove(name)
}

func (d *faultyDir) Sync() error {
	if err := d.next("sync directory"); err != nil {
		return err
	}
	return d.WriteDir.Sync()
}

type faultyFile struct {
	inputvalidation.WriteHandle
	d *faultyDir
}

func (f *faultyFile) Write(p []byte) (int, error) {
	if err := f.d.next("write"); err != nil {
		n, _ := f.WriteHandle.Write(p[:len(p)/2]) // a full disk takes a part
		return n, err
	}
	return f.WriteHandle.Write(p)
}

func (f *faultyFile) Sync() error {
	if err := f.d.next("sync"); err != nil {
		return err
	}
	return f.WriteHandle.Sync()
}

func (f *faultyFile) Close() error {
	err := f.d.next("close")
	return errors.Join(err, f.WriteHandle.Close())
}

// VAL-30: each step fails once, and the process dies before each step once: the
// file holds the old content or the new one, and after a mere failure no
// temporary file is left.
func TestWriteFileEachStepFails(t *testing.T) {
	steps := []string{"lstat", "create", "write", "sync", "close", "rename", "sync directory"}
	for failAt := 1; failAt <= len(steps)+1; failAt++ {
		for _, dies := range []bool{false, true} {
			dir := t.TempDir()
			root, err := os.OpenRoot(dir)
			must(t, err)
			defer root.Close()
			must(t, root.WriteFile("f", []byte("old content"), 0o600))
			faulty := &faultyDir{WriteDir: inputvalidation.RootDir{Root: root}, failAt: failAt, dies: dies}
			err = inputvalidation.ReplaceFile(faulty, "f", []byte("new"), 0o600)
			what := fmt.Sprintf("step %d fails (dies %v)", failAt, dies)
			if done := failAt > len(steps); (err == nil) != done {
				t.Errorf("%s: error %v", what, err)
			}
			if failAt > len(steps) && strings.Join(faulty.log, ", ") != strings.Join(steps, ", ") {
				t.Errorf("steps are %v, want %v", faulty.log, steps)
			}
			want := "old content"
			if failAt >= len(steps) {
				want = "new"
			}
			if got, err := root.ReadFile("f"); string(got) != want || err != nil {
				t.Errorf("%s: the file holds %q, %v, want %q", what, got, err, want)
			}
			left, _ := filepath.Glob(filepath.Join(dir, ".tmp-*"))
			if len(left) > 0 && !dies || len(left) > 1 {
				t.Errorf("%s: temporary files are left: %v", what, left)
			}
		}
	}
}

// Whatever has been put where the temporary file will be is not written to.
func TestWriteFileTempIsNew(t *testing.T) {
	root, err := os.OpenRoot(layout(t))
	must(t, err)
	defer root.Close()
	for _, name := range []string{"f", "link-in", "link-dangling", "fifo"} {
		if _, err := (inputvalidation.RootDir{Root: root}).Create(name, 0o600); !errors.Is(err, fs.ErrExist) {
			t.Errorf("Create(%s) = %v, want fs.ErrExist", name, err)
		}
	}
}

func TestWriteFileKinds(t *testing.T) {
	root := layout(t)
	tree := openTree(t, root, inputvalidation.TreeConfig{})
	for path, rule := range map[string]inputvalidation.Rule{
		"d": inputvalidation.RuleNotRegular, "fifo": inputvalidation.RuleNotRegular, "link-out": inputvalidation.RuleSymlink, "link-in": inputvalidation.RuleSymlink,
		"link-dir/e/f": inputvalidation.RuleSymlink, "none/f": "not_exist",
	} {
		wantRule(t, "WriteFile("+path+")", tree.WriteFile(relPath(t, path), []byte("x"), 0o600), rule)
	}
	p := relPath(t, "d/e/f")
	must(t, tree.WriteFile(p, []byte("next"), 0o600))
	got, err := tree.ReadFile(p, 10)
	if string(got) != "next" || err != nil {
		t.Errorf("ReadFile = %q, %v", got, err)
	}
	fi, err := os.Stat(filepath.Join(root, "d/e/f"))
	must(t, err)
	if fi.Mode().Perm() != 0o600 {
		t.Errorf("mode = %v, want 0600", fi.Mode())
	}
	within := openTree(t, root, inputvalidation.TreeConfig{FollowWithin: true})
	must(t, within.WriteFile(relPath(t, "link-dir/e/f"), []byte("via"), 0o600))
	if got, err := tree.ReadFile(p, 10); string(got) != "via" || err != nil {
		t.Errorf("after a write through a followed directory ReadFile = %q, %v", got, err)
	}
	wantRule(t, "WriteFile(link-dir-out/x)", within.WriteFile(relPath(t, "link-dir-out/x"), nil, 0o600), inputvalidation.RuleOutside)
}

// VAL-30: what is written is listed: the names of temporary files are refused
// where something new would get one. Left ones can be read and removed.
func TestTempNamesAreRefused(t *testing.T) {
	root := layout(t)
	plant(t, root, ".tmp-00000000000000ff")
	tree := openTree(t, root, inputvalidation.TreeConfig{})
	before := shown(tree.Files(t.Context()))
	for _, name := range []string{".tmp-0123456789abcdef", "d/.tmp-ffffffffffffffff", ".tmp-00000000000000ff"} {
		p := relPath(t, name)
		_, err := tree.Create(p, 0o600)
		wantRule(t, "Create("+name+")", err, inputvalidation.RuleSyntax)
		wantRule(t, "WriteFile("+name+")", tree.WriteFile(p, []byte("x"), 0o600), inputvalidation.RuleSyntax)
	}
	for _, name := range []string{".tmp-0123456789abcdef", "d/.tmp-0123456789abcdef/e"} {
		_, err := tree.Sub(relPath(t, name), true)
		wantRule(t, "Sub("+name+")", err, inputvalidation.RuleSyntax)
	}
	wantList(t, "Files afterwards", tree.Files(t.Context()), before...)
	left := relPath(t, ".tmp-00000000000000ff")
	if got, err := tree.ReadFile(left, 10); len(got) != 0 || err != nil {
		t.Errorf("ReadFile = %q, %v", got, err)
	}
	must(t, tree.Remove(left))
	for _, name := range []string{".tmp-0123456789abcdeF", ".tmp-0123456789abcde", ".tmp-0123456789abcdef0", "tmp-0123456789abcdef"} {
		must(t, tree.WriteFile(relPath(t, name), nil, 0o600))
	}
	must(t, tree.Close())
	if _, err := tree.Create(left, 0o600); !errors.Is(err, fs.ErrClosed) { // VAL-31
		t.Errorf("Create after Close = %v, want fs.ErrClosed", err)
	}
}

// childDir names the directory that a killed child process writes in.
const childDir = "INPUTVALIDATION_TEST_CHILD_DIR"

// TestWriteFileKilled kills a process with SIGKILL in the middle of endless
// writes: what is left is one whole content.
func TestWriteFileKilled(t *testing.T) {
	const size = 64 << 10
	if dir := os.Getenv(childDir); dir != "" {
		tree := openTree(t, dir, inputvalidation.TreeConfig{})
		for i := 0; ; i++ {
			must(t, tree.WriteFile(relPath(t, "f"), []byte(strings.Repeat(string(rune('a'+i%26)), size)), 0o600))
			fmt.Println("written")
		}
	}
	dir := t.TempDir()
	for kills := range 3 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestWriteFileKilled$", "-test.v")
		cmd.Env = append(os.Environ(), childDir+"="+dir)
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		lines := bufio.NewScanner(out)
		for seen := 0; seen <= kills*3; {
			if !lines.Scan() {
				t.Fatalf("the child ended by itself: %v", lines.Err())
			}
			if lines.Text() == "written" {
				seen++
			}
		}
		must(t, cmd.Process.Kill())
		_ = cmd.Wait() // it was killed
		got, err := openTree(t, dir, inputvalidation.TreeConfig{}).ReadFile(relPath(t, "f"), 2*size)
		if err != nil || len(got) != size || strings.Trim(string(got), string(got[:1])) != "" {
			t.Errorf("after the kill: %d bytes, %v", len(got), err)
		}
	}
}
