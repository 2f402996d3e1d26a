package faultfs_test

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"testing"

	"github.com/llorch/llorch/audit/internal/faultfs"
	"github.com/llorch/llorch/audit/internal/vfs"
)

var _ vfs.FS = (*faultfs.FS)(nil)

func write(t *testing.T, f vfs.File, s string, off int64) {
	t.Helper()
	if _, err := f.WriteAt([]byte(s), off); err != nil {
		t.Fatal(err)
	}
}

func TestPowerCutLosesWhatWasNotSynced(t *testing.T) {
	lost, kept := false, false
	for seed := range uint64(50) {
		fsys := faultfs.New()
		f, err := fsys.Create("a")
		if err != nil {
			t.Fatal(err)
		}
		write(t, f, "synced", 0)
		if err := errors.Join(f.Sync(), fsys.SyncDir(".")); err != nil {
			t.Fatal(err)
		}
		write(t, f, " unsynced", 6)
		if _, err := fsys.Create("b"); err != nil {
			t.Fatal(err)
		}
		left := fsys.PowerCut(rand.New(rand.NewPCG(seed, 1))).Snapshot()
		if got := string(left["a"]); got != "synced" && got != "synced unsynced" {
			t.Fatalf("a = %q", got)
		}
		_, named := left["b"]
		lost, kept = lost || !named, kept || named
	}
	if !lost || !kept {
		t.Errorf("an unsynced name was lost: %v, kept: %v; want both at times", lost, kept)
	}
}

func TestFailedSyncLosesForGood(t *testing.T) {
	fsys := faultfs.New()
	f, err := fsys.Create("a")
	if err != nil {
		t.Fatal(err)
	}
	if err := fsys.SyncDir("."); err != nil {
		t.Fatal(err)
	}
	write(t, f, "lost", 0)
	fsys.Hook(func(faultfs.Step) *faultfs.Fault { return &faultfs.Fault{Err: fs.ErrInvalid} })
	if err := f.Sync(); !errors.Is(err, fs.ErrInvalid) {
		t.Fatal(err)
	}
	fsys.Hook(nil)
	write(t, f, "kept", 4)
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if got := string(fsys.Snapshot()["a"]); got != "lostkept" {
		t.Errorf("the process sees %q", got)
	}
	if got := string(fsys.PowerCut(rand.New(rand.NewPCG(1, 1))).Snapshot()["a"]); got != "\x00\x00\x00\x00kept" {
		t.Errorf("the disk holds %q", got)
	}
}

func TestKill(t *testing.T) {
	fsys := faultfs.New()
	fsys.Kill()
	if _, err := fsys.Create("a"); !errors.Is(err, faultfs.ErrDead) {
		t.Errorf("Create() = %v", err)
	}
	if _, err := fsys.Survivor().Create("a"); err != nil {
		t.Errorf("Create() after = %v", err)
	}
}
