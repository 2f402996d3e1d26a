package nodeagent_test

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/poolregistry"
	"github.com/llorch/llorch/poolregistry/nodeagent"
)

// PRG-68: what is read from a lease file is either whole or refused.
func FuzzLeaseFile(f *testing.F) {
	for _, s := range []string{
		`{"node_id":"a","instance_id":"00000000-0000-4000-8000-000000000001","lease_token":"-x_","epoch":1}`,
		`{"node_id":"a","instance_id":"00000000-0000-4000-8000-000000000001","lease_token":"t","epoch":0}`,
		`{"node_id":"a","instance_id":"00000000-0000-4000-8000-000000000001","lease_token":"t","epoch":4503599627370496}`,
		`{"node_id":"a","instance_id":"00000000-0000-4000-8000-000000000001","lease_token":"","epoch":1}`,
		`{"node_id":"../a","instance_id":"00000000-0000-4000-8000-000000000001","lease_token":"t","epoch":1}`,
		`{"node_id":"a","node_id":"b"}`, `{`, `null`, `{"epoch":1e400}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		node, token, epoch, err := nodeagent.ParseLease(raw)
		if err != nil {
			if len(raw) > 20 && strings.Contains(err.Error(), string(raw)) {
				t.Error("the error repeats the file")
			}
			return
		}
		if _, err := poolregistry.ParseNodeID(node); err != nil || token == "" || len(token) > 128 || epoch == 0 || epoch >= 1<<52 {
			t.Errorf("accepted %q: %q %q %d", raw, node, token, epoch)
		}
	})
}

// A crash while the lease file is replaced leaves the old or the new one: the
// file is never written in place.
func TestLeaseFileIsReplaced(t *testing.T) {
	dir := t.TempDir()
	tree := openTree(t, dir)
	file := filepath.Join(dir, "lease.json")
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, poolregistry.Fast())
		m := c.start("a", "a", tree)
		time.Sleep(time.Second)
		before, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer before.Close()
		old, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		m.way.hang.Store(true)
		time.Sleep(10 * time.Second) // offline: the return has a new epoch
		m.way.hang.Store(false)
		time.Sleep(2 * time.Second)
		now, err := os.ReadFile(file)
		if err != nil || string(now) == string(old) {
			t.Fatalf("the file was not written again: %v", err)
		}
		still, err := io.ReadAll(before)
		if err != nil || string(still) != string(old) {
			t.Errorf("a reader that had the file open sees %q, %v", still, err)
		}
		names, err := os.ReadDir(dir)
		if err != nil || len(names) != 1 {
			t.Errorf("left in the folder: %v, %v", names, err)
		}
	})
}
