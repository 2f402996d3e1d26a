package gpuinfo

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// trustedPaths are where distributions, WSL, container toolkits and NixOS put the
// tool. PATH is never searched, so a program planted there is never started.
func trustedPaths() []string {
	return []string{
		"/usr/bin/nvidia-smi", "/usr/local/bin/nvidia-smi", "/usr/lib/wsl/lib/nvidia-smi", "/usr/local/nvidia/bin/nvidia-smi",
		"/run/nvidia/driver/usr/bin/nvidia-smi", "/run/current-system/sw/bin/nvidia-smi", "/opt/bin/nvidia-smi",
	}
}

// trustError is why a tool is not started; its text is one of our sentences.
type trustError struct {
	reason Reason
	text   string
}

// trustedFile reports why the file at path must not be started, or nil.
func trustedFile(path string) *trustError {
	if !filepath.IsAbs(path) {
		return &trustError{Failed, "the path of nvidia-smi is not absolute"}
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return &trustError{Permission, "nvidia-smi may not be read"}
	case err != nil:
		return &trustError{NoTool, "nvidia-smi was not found"}
	case !info.Mode().IsRegular():
		return &trustError{Failed, "nvidia-smi is not a regular file"}
	case info.Mode().Perm()&0o022 != 0:
		return &trustError{Failed, "nvidia-smi is writable by group or others"}
	case !ownedByRoot(path, info):
		return &trustError{Failed, "nvidia-smi is not owned by root"}
	}
	return nil
}

// findTool returns the first path that exists, and why it may not be used: skipping
// it would hide the fault.
func findTool(configured string, check func(string) *trustError) (path string, why *trustError) {
	paths := trustedPaths()
	if configured != "" {
		paths = []string{configured}
	}
	for _, path = range paths {
		if why = check(path); why == nil || why.reason != NoTool {
			break
		}
	}
	return path, why
}
