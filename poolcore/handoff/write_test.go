package handoff_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	. "github.com/llorch/llorch/poolcore/handoff"
)

func openDir(t testing.TB) (*os.Root, string) {
	t.Helper()
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	return root, dir
}

// version returns a file whose members all tell the same number, so that a mixture
// of two shows.
func version(n int) File {
	return File{
		PoolID: "pool-0", ReplicaID: "r0", WorkerID: fmt.Sprintf("w-%d", n), Engine: "llamacpp", EngineVersion: fmt.Sprint(n), URL: "http://127.0.0.1:8001",
		SlotsTotal: 4096, SlotsFree: n % 4096, Model: Model{ID: strings.Repeat("m", n%3000), Path: fmt.Sprint(n)}, WrittenAt: time.Unix(int64(n), 0).UTC(),
	}
}

func whole(data []byte) error {
	f, err := Parse(data)
	if err != nil {
		return err
	}
	var n int
	if _, err := fmt.Sscan(f.EngineVersion, &n); err != nil {
		return err
	}
	want := version(n)
	want.Schema = 1
	if !reflect.DeepEqual(f, want) {
		return fmt.Errorf("a mixture: %+v", f)
	}
	return nil
}

// TestWrite (PCO-49): the form, its name, its permissions, nothing beside it, and
// that it reads back as itself.
func TestWrite(t *testing.T) {
	root, dir := openDir(t)
	f, err := Parse(golden(t, "long.json"))
	if err != nil {
		t.Fatal(err)
	}
	f.Schema = 0
	if err := Write(root, f); err != nil {
		t.Fatal(err)
	}
	f.Schema = 1
	entries, _ := os.ReadDir(dir)
	if len(entries) != 1 || entries[0].Name() != "pool-0-r1.json" {
		t.Fatalf("directory holds %v", entries)
	}
	fi, _ := entries[0].Info()
	if fi.Mode() != 0o600 {
		t.Errorf("mode %v, want 0600", fi.Mode())
	}
	data, _ := os.ReadFile(filepath.Join(dir, "pool-0-r1.json"))
	if got, err := Parse(data); err != nil || !reflect.DeepEqual(got, f) {
		t.Errorf("reads back as %+v, %v", got, err)
	}
	var members map[string]any
	if err := json.Unmarshal(data, &members); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"schema", "pool_id", "replica_id", "worker_id", "engine", "engine_version", "url", "device_mask", "slots_total", "slots_free", "pid", "model",
		"provisioning_mode", "flags", "written_at",
	} {
		if _, ok := members[name]; !ok {
			t.Errorf("%s is missing", name)
		}
		delete(members, name)
	}
	if len(members) > 0 {
		t.Errorf("members beyond the form: %v", members)
	}
	for range 2 { // a second time is no error
		if err := Remove(root, "pool-0", "r1"); err != nil {
			t.Errorf("Remove: %v", err)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("after Remove: %v", entries)
	}
}

// TestWriteRefusals (PCO-49): no key, no ambiguous or malformed name; nothing is
// written, and no error repeats what it refuses.
func TestWriteRefusals(t *testing.T) {
	root, dir := openDir(t)
	for name, change := range map[string]func(*File){
		"key":          func(f *File) { f.Flags = []string{"--x", "--api-key=hunter2hunter2"} },
		"key apart":    func(f *File) { f.Flags = []string{"--API-KEY"} },
		"hub token":    func(f *File) { f.Flags = []string{"--hf-token=hunter2hunter2"} },
		"password":     func(f *File) { f.Flags = []string{"--redis-password=hunter2hunter2"} },
		"userinfo":     func(f *File) { f.URL = "http://u:hunter2hunter2@127.0.0.1:1" },
		"query":        func(f *File) { f.URL = "http://127.0.0.1:1?key=hunter2hunter2" },
		"pool path":    func(f *File) { f.PoolID = "../hunter2hunter2" },
		"ambiguous":    func(f *File) { f.ReplicaID = "a-r1" },
		"no engine":    func(f *File) { f.Engine = "" },
		"slots":        func(f *File) { f.SlotsTotal = 0 },
		"too large":    func(f *File) { f.Flags = slicesRepeat("\x01", 64) },
		"bad written":  func(f *File) { f.WrittenAt = time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"negative pid": func(f *File) { f.PID = -1 },
	} {
		f := version(7)
		change(&f)
		err := Write(root, f)
		if _, ok := errors.AsType[*Error](err); !ok {
			t.Errorf("%s: %v, want a typed error", name, err)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error repeats it: %v", name, err)
		}
	}
	f := version(7)
	f.Flags = []string{"--max-num-batched-tokens=1", "--cache-type-k=f16", "--keep=2"}
	if err := Write(root, f); err != nil {
		t.Errorf("harmless flags: %v", err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("directory holds %v", entries)
	}
	if err := Remove(root, "..", "r0"); !errors.Is(err, Invalid) {
		t.Errorf("Remove of a path: %v", err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := Write(root, version(8)); err == nil {
		t.Error("Write into a removed directory succeeded")
	}
}

// slicesRepeat returns n flags of the largest size, of a character that JSON
// writes six times as long.
func slicesRepeat(c string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = strings.Repeat(c, 512)
	}
	return out
}

// TestNoTornReads (PCO-49, G6 of the reader): a writer beside a reader; every read
// is one version, whole.
func TestNoTornReads(t *testing.T) {
	root, dir := openDir(t)
	if err := Write(root, version(0)); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	done := make(chan struct{})
	wg.Go(func() {
		defer close(done)
		for n := range 200 {
			if err := Write(root, version(n*37)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	path, torn, reads := filepath.Join(dir, "pool-0-r0.json"), 0, 0
	for running := true; running; reads++ {
		select {
		case <-done:
			running = false
		default:
		}
		data, err := os.ReadFile(path)
		if err == nil {
			err = whole(data)
		}
		if err != nil {
			torn++
			t.Errorf("read %d: %v", reads, err)
		}
	}
	wg.Wait()
	t.Logf("%d reads, %d torn", reads, torn)
}

const crashDir = "HANDOFF_TEST_CRASH_DIR"

// TestKilledWriterLeavesOneVersion: whenever a writer is killed, the file is the
// old one or the new one, and what it leaves is never read.
func TestKilledWriterLeavesOneVersion(t *testing.T) {
	if dir := os.Getenv(crashDir); dir != "" {
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		for n := range 1 << 20 {
			if err := Write(root, version(n)); err != nil {
				t.Fatal(err)
			}
			if n == 0 {
				fmt.Println("started")
			}
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 4 {
		dir := t.TempDir()
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledWriterLeavesOneVersion$")
		cmd.Env = append(os.Environ(), crashDir+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 1)); err != nil { // the first version is written
			t.Fatal(err)
		}
		for range rng.IntN(60) { // some versions later, wherever that is
			if _, err := os.Stat(dir); err != nil {
				t.Fatal(err)
			}
			_, _ = os.ReadFile(filepath.Join(dir, "pool-0-r0.json"))
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		data, err := os.ReadFile(filepath.Join(dir, "pool-0-r0.json"))
		if err == nil {
			err = whole(data)
		}
		if err != nil {
			t.Errorf("after the kill: %v", err)
		}
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if name := e.Name(); name != "pool-0-r0.json" && !strings.HasPrefix(name, ".tmp-") {
				t.Errorf("left behind: %s", name)
			}
		}
	}
}

// TestWriteReplacesALink: a link at the file's name is replaced, never followed.
func TestWriteReplacesALink(t *testing.T) {
	root, dir := openDir(t)
	target := filepath.Join(t.TempDir(), "target")
	if err := os.WriteFile(target, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, filepath.Join(dir, "pool-0-r0.json")); err != nil {
		t.Fatal(err)
	}
	if err := Write(root, version(3)); err != nil {
		t.Fatal(err)
	}
	if data, _ := os.ReadFile(target); string(data) != "mine" {
		t.Errorf("the link was followed: %q", data)
	}
	if fi, err := os.Lstat(filepath.Join(dir, "pool-0-r0.json")); err != nil || fi.Mode()&fs.ModeSymlink != 0 {
		t.Errorf("still a link: %v, %v", fi, err)
	}
}

func ExampleWrite() {
	dir, _ := os.MkdirTemp("", "handoff")
	defer os.RemoveAll(dir)
	root, _ := os.OpenRoot(dir)
	defer root.Close()
	err := Write(root, File{PoolID: "pool-0", ReplicaID: "r0", Engine: "llamacpp", EngineVersion: "b6123", URL: "http://127.0.0.1:8001", SlotsTotal: 4, SlotsFree: 4})
	data, _ := os.ReadFile(filepath.Join(dir, Name("pool-0", "r0")))
	fmt.Print(err, "\n", string(data))
	// Output:
	// <nil>
	// {"schema":1,"pool_id":"pool-0","replica_id":"r0","engine":"llamacpp","engine_version":"b6123","url":"http://127.0.0.1:8001","slots_total":4,"slots_free":4}
}
