//go:build !unix

package secrets

import (
	"io/fs"
	"os"
)

const openFlags = os.O_RDONLY

// judge has no modes to look at here.
func judge(place, int, string, fs.FileInfo, ...fs.FileInfo) (warning string, _ error) {
	return "this system's file permissions were not checked", nil
}

// foreign has no owners to look at here.
func foreign(place, fs.FileInfo) bool { return false }
