package handoff

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/poolregistry"
)

// Name returns the name of the file of a worker's place. A replica id of Write has
// no "-", so two places never share a name.
func Name(pool poolregistry.PoolID, replica string) string {
	return string(pool) + "-" + replica + ".json"
}

// Write writes f to its file in dir, a directory that only this user may enter
// (0700), in one step: readers see the old content or the new one, also after a
// crash, and when Write returns nil the new one has reached the disk. The file is
// 0600. A crash may leave a file ".tmp-<16 hex>" behind, which nobody reads.
//
// The error is an [*Error] where f is not what Parse would read, its replica id
// holds "-", its URL is not http(s)://host:port, or a flag could hold a key;
// nothing is written then.
func Write(dir *os.Root, f File) error {
	f.Schema = schema
	if err := f.checkWritten(); err != nil {
		return err
	}
	data, err := json.Marshal(f)
	if err != nil {
		return invalid("file", "not representable")
	}
	if len(data) >= MaxBytes {
		return invalid("file", "too large")
	}
	name := Name(f.PoolID, f.ReplicaID)
	if err := replace(dir, name, append(data, '\n')); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// checkWritten is check and what holds for our own files only.
func (f File) checkWritten() error {
	if err := f.check(); err != nil {
		return err
	}
	if strings.Contains(f.ReplicaID, "-") {
		return invalid("replica_id", "holds -")
	}
	anywhere := poolregistry.AddressPolicy{MinPort: 1, Allow: []inputvalidation.AddrKind{
		inputvalidation.AddrLoopback, inputvalidation.AddrPrivate, inputvalidation.AddrPublic,
	}}
	if _, err := anywhere.Check(f.URL); err != nil {
		return &Error{Code: AddressNotAllowed, Field: "url"}
	}
	for i, flag := range f.Flags {
		name, _, _ := strings.Cut(strings.ToLower(flag), "=")
		if strings.Contains(name, "api-key") || strings.Contains(name, "password") || strings.Contains(name, "secret") || strings.HasSuffix(name, "-token") {
			return invalid(fmt.Sprintf("flags[%d]", i), "may hold a key")
		}
	}
	return nil
}

// replace is the atomic write of [inputvalidation.Tree] for a directory that the
// caller holds open already: a Tree is opened by its path.
func replace(dir *os.Root, name string, data []byte) error {
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails: the runtime stops the process instead
	temp := ".tmp-" + hex.EncodeToString(id[:])
	f, err := dir.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = dir.Rename(temp, name)
	}
	if err != nil {
		_ = dir.Remove(temp) // best effort: the first error is the one to act on
		return err
	}
	return syncDir(dir)
}

// Remove removes the file of a worker's place. That it is not there is no error.
func Remove(dir *os.Root, pool poolregistry.PoolID, replica string) error {
	f := File{PoolID: pool, ReplicaID: replica, Engine: "-", URL: "-", SlotsTotal: 1}
	if err := f.check(); err != nil {
		return err
	}
	name := Name(pool, replica)
	if err := dir.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}
