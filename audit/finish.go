package audit

import (
	"errors"
	"time"

	"github.com/llorch/llorch/audit/internal/vfs"
)

// finishFile completes a sealed file: sidecar, mode 0400, and its entry in the
// manifest, which the caller saves. Every step may be repeated. A file that was
// given up after an error may hold more than was sealed, so it gets no sidecar;
// one that was replaced is not ours to touch.
func finishFile(fsys vfs.FS, m *manifest, seal *rotated, why string, now time.Time) error {
	entry := m.known(seal.PrevFile)
	if entry != nil {
		entry.State, entry.Closed, entry.Bytes = stateClosed, formatTime(now), int64(seal.PrevBytes)
	}
	if why == rotateReplaced {
		return nil
	}
	if why != rotateError {
		text := sidecarText(seal.PrevSHA256, seal.PrevFile)
		if err := replaceFile(fsys, seal.PrevFile+sidecarSuffix, []byte(text), 0o400); err != nil {
			return err
		}
	}
	f, err := fsys.Open(seal.PrevFile, false)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Chmod(0o400), f.Close()); err != nil {
		return err
	}
	if entry != nil && why != rotateError {
		entry.SHA256 = seal.PrevSHA256
	}
	return nil
}

// sidecarText is a line as sha256sum -c reads it.
func sidecarText(digest, name string) string { return digest + "  " + name + "\n" }
