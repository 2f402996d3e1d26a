//go:build !linux

package gpuinfo

import "io/fs"

func ownedByRoot(fs.FileInfo) bool { return false }
