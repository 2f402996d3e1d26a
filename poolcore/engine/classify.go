package engine

import (
	"strings"
	"time"
)

// Classes of an exit.
const (
	ClassGraceful     = "graceful"
	ClassOOMVRAM      = "oom_vram"
	ClassCUDA         = "cuda_error"
	ClassSegfault     = "segfault"
	ClassAbort        = "abort"
	ClassKilled       = "killed"
	ClassConfig       = "config_error"
	ClassPortConflict = "port_conflict"
	ClassStartTimeout = "start_timeout"
	ClassHealth       = "health_timeout"
	ClassIdentity     = "wrong_identity"
	ClassPreflight    = "preflight"
	ClassUnknown      = "unknown"
)

// configWithin is how early an exit must come to be blamed on the configuration:
// an engine refuses its arguments or its model before it loads anything large.
const configWithin = 5 * time.Second

type pattern struct {
	class string
	texts []string // lower case; any of them in a line decides
}

// patterns are ordered: the first class that matches any line wins, because one
// fault often drags others behind it (an allocation failure ends in an abort).
func patterns() []pattern {
	return []pattern{
		{ClassPortConflict, []string{"address already in use", "couldn't bind http server socket", "failed to bind"}},
		{ClassOOMVRAM, []string{"cudamalloc failed", "cuda out of memory", "hipmalloc failed", "out of device memory", "erroroutofdevicememory", "failed to allocate cuda", "no available memory for the cache blocks"}},
		{ClassCUDA, []string{"cuda error", "illegal memory access", "rocm error", "hip error"}},
	}
}

func configPatterns() []string {
	return []string{"unknown argument", "invalid argument", "error: argument", "usage:", "invalid magic", "failed to load model", "unable to load model", "flag provided but not defined"}
}

// classify is the common rule of the kinds here; it is pure.
func classify(e Exit) string {
	for _, p := range patterns() {
		if anyLine(e.Lines, p.texts) {
			return p.class
		}
	}
	switch e.Signal {
	case "SIGSEGV", "SIGBUS":
		return ClassSegfault
	case "SIGABRT":
		return ClassAbort
	case "SIGKILL", "SIGTERM", "SIGINT", "SIGHUP":
		return ClassKilled
	}
	if !e.Answered && e.Uptime < configWithin && anyLine(e.Lines, configPatterns()) {
		return ClassConfig
	}
	return ClassUnknown
}

func anyLine(lines, texts []string) bool {
	for _, line := range lines {
		line = strings.ToLower(line)
		for _, t := range texts {
			if strings.Contains(line, t) {
				return true
			}
		}
	}
	return false
}
