package gpuinfo

import (
	"bytes"
	"fmt"
	"io/fs"
	"slices"
)

// Exit codes of nvidia-smi that are not failures of the whole.
const (
	exitUsage = 2  // with the name of a field that this version does not know
	exitLost  = 15 // a device is lost, the rows of the others did arrive
)

// smiSnapshot turns one ended run into a result. What that may need beyond the rows
// is only read then: the memory of the host below root, and the run of -L.
func smiSnapshot(res runResult, fields []string, root fs.FS, list func() runResult) Snapshot {
	if s := failedRun(res); s.Reason != OK {
		return s
	}
	devices, skipped := parseSMI(res.stdout, fields)
	for i := range devices {
		devices[i].ShareHostMemory(root, false)
	}
	attachSlices(devices, list)
	s := Snapshot{Devices: devices, Reason: NoDevice, Detail: "nvidia-smi lists no device"}
	if i := slices.IndexFunc(devices, func(d Device) bool { return d.Driver != "" }); i >= 0 {
		s.Driver = devices[i].Driver
	}
	switch {
	case skipped > 0:
		s.Reason, s.Detail = ParseFailed, "no line of nvidia-smi could be read"
	case res.code != 0:
		s.Reason, s.Detail = Failed, fmt.Sprintf("nvidia-smi failed (exit code %d)", res.code)
	}
	s.Conclude(skipped)
	return s
}

// failedRun says why a run gave no rows; OK means that its rows are to be read.
func failedRun(res runResult) Snapshot {
	switch res.end {
	case startFailed:
		return Snapshot{Reason: Failed, Detail: fmt.Sprintf("nvidia-smi could not be started (errno %d)", res.errno)}
	case timedOut:
		return Snapshot{Reason: Timeout, Detail: "nvidia-smi did not answer in time"}
	case tooMuch:
		return Snapshot{Reason: ParseFailed, Detail: "nvidia-smi printed too much"}
	case hung:
		return Snapshot{Reason: DriverHung, Detail: fmt.Sprintf("nvidia-smi has been hanging in the driver for %d ms", res.age.Milliseconds())}
	}
	if res.code == 0 || res.code == exitLost {
		return Snapshot{Reason: OK}
	}
	mismatch := Snapshot{Reason: DriverMismatch, Detail: "driver and library versions differ"}
	noDriver := Snapshot{Reason: NoDriver, Detail: "the NVIDIA driver is not loaded"}
	s, known := map[int]Snapshot{
		4: {Reason: Permission, Detail: "nvidia-smi has no permission"}, 6: {Reason: NoDevice, Detail: "nvidia-smi found no device"},
		9: noDriver, 12: noDriver, 13: noDriver, 18: mismatch,
	}[res.code]
	switch {
	case known:
	case bytes.Contains(bytes.ToLower(slices.Concat(res.stderr, res.stdout)), []byte("version mismatch")):
		s = mismatch
	default:
		s = Snapshot{Reason: Failed, Detail: "nvidia-smi failed"}
	}
	s.Detail += fmt.Sprintf(" (exit code %d)", res.code)
	return s
}
