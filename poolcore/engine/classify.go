package engine

import (
	"slices"
	"strings"
	"time"
)

// Classes of an end, a closed set: [Classes] lists them. Classify returns those
// that a log and an exit status can show; the others are the supervisor's.
const (
	ClassGraceful       = "graceful"
	ClassOOMVRAM        = "oom_vram"
	ClassOOMHost        = "oom_host"
	ClassCUDA           = "cuda_error"
	ClassDriverReset    = "driver_reset"
	ClassPartialOffload = "partial_offload"
	ClassMaskViolation  = "mask_violation"
	ClassSegfault       = "segfault"
	ClassAbort          = "abort"
	ClassKilled         = "killed"
	ClassConfig         = "config_error"
	ClassPortConflict   = "port_conflict"
	ClassStartTimeout   = "start_timeout"
	ClassHealth         = "health_timeout"
	ClassVRAMLeak       = "vram_leak"
	ClassIdentity       = "wrong_identity"
	ClassVersion        = "version_mismatch"
	ClassPreflight      = "preflight"
	ClassUnknownExit    = "unknown_exit" // an adopted process: its exit status went to its first parent
	ClassUnknown        = "unknown"
)

// Classes returns every class, in the order of the constants.
func Classes() []string {
	return []string{
		ClassGraceful, ClassOOMVRAM, ClassOOMHost, ClassCUDA, ClassDriverReset, ClassPartialOffload, ClassMaskViolation, ClassSegfault,
		ClassAbort, ClassKilled, ClassConfig, ClassPortConflict, ClassStartTimeout, ClassHealth, ClassVRAMLeak, ClassIdentity, ClassVersion,
		ClassPreflight, ClassUnknownExit, ClassUnknown,
	}
}

// configWithin is how early an exit must come to be blamed on the configuration:
// an engine refuses its arguments or its model before it loads anything large.
const configWithin = 5 * time.Second

// pattern is a class and what lines show it: lower case; any of the texts in a line
// decides, and "…" in a text stands for anything between.
type pattern struct {
	class string
	texts []string
}

// commonPatterns are ordered, like every list here: the first class that matches
// any line wins, because one fault often drags others behind it (an allocation
// failure ends in an abort).
func commonPatterns() []pattern {
	return []pattern{
		{ClassPortConflict, []string{"address already in use", "errno 98"}},
		{ClassOOMVRAM, []string{
			"cudamalloc failed", "cuda out of memory", "cuda error: out of memory", "cuda error 2:", "cudaerrormemoryallocation", "hipmalloc failed", "hip out of memory",
			"hiperroroutofmemory", "cublas_status_alloc_failed", "out of device memory", "erroroutofdevicememory", "failed to allocate cuda",
		}},
		{ClassDriverReset, []string{"fallen off the bus", "cudaerrordevicesunavailable", "gpu reset", "gpu is lost", "driver shutting down", "errordevicelost"}},
		{ClassCUDA, []string{"cuda error", "illegal memory access", "rocm error", "hip error", "cublas_status_", "nccl error", "unspecified launch failure", "hsa_status_error"}},
		{ClassOOMHost, []string{"std::bad_alloc", "cannot allocate memory", "defaultcpuallocator: can't allocate", "failed to allocate cpu buffer"}},
	}
}

func llamaPatterns() []pattern {
	return slices.Concat([]pattern{{ClassPortConflict, []string{"couldn't bind http server socket", "couldn't bind to server socket", "failed to bind"}}}, commonPatterns())
}

func vllmPatterns() []pattern {
	return slices.Concat([]pattern{
		{ClassOOMVRAM, []string{"no available memory for the cache blocks", "free memory on device…less than desired", "larger than the available kv cache memory"}},
	}, commonPatterns(), []pattern{{ClassOOMHost, []string{"memoryerror"}}})
}

func ollamaPatterns() []pattern {
	return slices.Concat([]pattern{{ClassOOMVRAM, []string{"requires more vram than is available"}}, {
		ClassOOMHost, []string{"model requires more system memory"},
	}}, llamaPatterns())
}

// configPatterns are believed only of an early exit: later, such words come from a
// request.
func configPatterns() []string {
	return []string{
		"unknown argument", "invalid argument", "error: argument", "unrecognized arguments", "usage:", "invalid magic", "failed to load model", "unable to load model",
		"flag provided but not defined", "unknown flag", "unknown command", "unknown model architecture", "unsupported model architecture", "are not supported for now",
		"does not appear to have a file named", "no such file or directory", "invalid repository id", "bfloat16 is only supported on gpus",
	}
}

// classify is the common rule of the kinds here; it is pure. What the kernel and
// the driver say goes before what the engine prints, and both before the signal.
func classify(e Exit, patterns []pattern) string {
	switch {
	case e.Asked:
		return ClassGraceful
	case e.OOMKills > 0:
		return ClassOOMHost
	}
	for _, p := range patterns {
		if p.class != ClassCUDA && p.class != ClassOOMHost && anyLine(e.Lines, p.texts) {
			return p.class
		}
	}
	if class := xidClass(e.Xids); class != "" {
		return class // an engine calls a lost device a CUDA error
	}
	for _, p := range patterns {
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

// xidClass reads NVIDIA's numbers: those of the hardware, the link or the firmware
// take the device away; those of an application's fault are CUDA errors. Others
// explain no exit.
func xidClass(xids []int) string {
	hardware := []int{48, 61, 62, 64, 74, 79, 95, 119, 120, 140, 143}
	application := []int{13, 31, 32, 43, 45, 68, 69, 94, 109}
	switch {
	case slices.ContainsFunc(xids, func(x int) bool { return slices.Contains(hardware, x) }):
		return ClassDriverReset
	case slices.ContainsFunc(xids, func(x int) bool { return slices.Contains(application, x) }):
		return ClassCUDA
	}
	return ""
}

func anyLine(lines, texts []string) bool {
	for _, line := range lines {
		line = strings.ToLower(line)
		for _, t := range texts {
			if lineHas(line, t) {
				return true
			}
		}
	}
	return false
}

// lineHas reports whether the parts of text, divided by "…", stand in line in order.
func lineHas(line, text string) bool {
	for part := range strings.SplitSeq(text, "…") {
		_, rest, ok := strings.Cut(line, part)
		if !ok {
			return false
		}
		line = rest
	}
	return true
}
