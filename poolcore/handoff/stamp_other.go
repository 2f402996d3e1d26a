//go:build !linux

package handoff

import (
	"io/fs"
	"time"
)

// stamp tells nothing here: every file is read at every look.
type stamp struct{}

func stampOf(fs.FileInfo) (stamp, bool) { return stamp{}, false }

func (stamp) changed() time.Time { return time.Time{} }
