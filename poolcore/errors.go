package poolcore

import (
	"fmt"
	"slices"
	"strings"
)

// Code is a condition that callers branch on with errors.Is; its text is the code
// of the HTTP API.
type Code string

// Codes of this package. Those from BinaryMissing on are the faults of a preflight.
const (
	PoolUnknown        Code = "POOL_UNKNOWN"
	PoolExists         Code = "POOL_EXISTS"
	PoolBusy           Code = "POOL_BUSY"
	HostStopped        Code = "HOST_STOPPED"
	InvalidParams      Code = "INVALID_PARAMS"
	Unsupported        Code = "UNSUPPORTED"
	WorkerStartFailed  Code = "WORKER_START_FAILED"
	WorkerStartTimeout Code = "WORKER_START_TIMEOUT"
	WorkerStuck        Code = "WORKER_STUCK"
	WorkerUnknown      Code = "WORKER_NOT_FOUND"
	PoolUnready        Code = "POOL_UNREADY"
	Draining           Code = "DRAINING"
	NoSlots            Code = "NO_SLOTS"
	BreakerOpen        Code = "BREAKER_OPEN"
	Cancelled          Code = "CANCELLED"
	ReloadStageFailed  Code = "RELOAD_STAGE_FAILED"
	ReloadDrainTimeout Code = "RELOAD_DRAIN_TIMEOUT"
	ReloadRolledBack   Code = "RELOAD_ROLLED_BACK"
	RollbackFailed     Code = "RELOAD_ROLLBACK_FAILED"

	BinaryMissing       Code = "BINARY_MISSING"
	BinaryNotAllowed    Code = "BINARY_NOT_ALLOWED"
	BinaryNotExecutable Code = "BINARY_NOT_EXECUTABLE"
	ModelMissing        Code = "MODEL_MISSING"
	PortUnavailable     Code = "PORT_UNAVAILABLE"
	FlagNotAllowed      Code = "FLAG_NOT_ALLOWED"
	EnvNotAllowed       Code = "ENV_NOT_ALLOWED"
	DirNotWritable      Code = "DIR_NOT_WRITABLE"
	GPUUnavailable      Code = "GPU_UNAVAILABLE"
	GPUUnhealthy        Code = "GPU_UNHEALTHY"
	InsufficientVRAM    Code = "INSUFFICIENT_VRAM"
	ModelInUse          Code = "MODEL_IN_USE"
)

// Codes that are shown, and that no caller of this package branches on.
const (
	deviceMaskInvalid Code = "DEVICE_MASK_INVALID"
	modelUnverified   Code = "MODEL_UNVERIFIED"
	purgeFailed       Code = "PURGE_FAILED"
)

// Error returns the code.
func (c Code) Error() string { return string(c) }

// Fault is one reason why a worker can not be started.
type Fault struct {
	Code   Code
	Detail string // a sentence of this package; names fields, never paths or values
}

// PreflightError lists every fault of a preflight; nothing was started.
// errors.Is finds each fault's code.
type PreflightError struct{ Faults []Fault }

// Error names the faults.
func (e *PreflightError) Error() string {
	texts := make([]string, len(e.Faults))
	for i, f := range e.Faults {
		texts[i] = string(f.Code) + ": " + f.Detail
	}
	return "preflight: " + strings.Join(texts, "; ")
}

// Is reports whether target is the code of one of the faults.
func (e *PreflightError) Is(target error) bool {
	return slices.ContainsFunc(e.Faults, func(f Fault) bool { return error(f.Code) == target })
}

// CrashError says how a worker ended before it was ready. It is WorkerStartFailed
// or, when it never got ready in time, WorkerStartTimeout.
type CrashError struct {
	Class    string   // one of package engine's Class constants
	ExitCode int      // −1 after a signal or when the process did not end by itself
	Signal   string   // such as "SIGKILL"
	Tail     []string // the engine's last lines, escaped; for authenticated readers only
}

// Error names class and exit, not the engine's lines.
func (e *CrashError) Error() string {
	if e.Signal != "" {
		return fmt.Sprintf("worker failed: %s (%s)", e.Class, e.Signal)
	}
	return fmt.Sprintf("worker failed: %s (exit code %d)", e.Class, e.ExitCode)
}

// Is reports whether target is the code that the class belongs to.
func (e *CrashError) Is(target error) bool { return target == error(startCode(e.Class)) }
