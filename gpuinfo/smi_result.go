package gpuinfo

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Exit codes of nvidia-smi that are not failures of the whole.
const (
	exitUsage = 2  // with the name of a field that this version does not know
	exitLost  = 15 // a device is lost, the rows of the others did arrive
)

// smiAsk is what a result may need beyond its rows; each is called only then.
type smiAsk struct {
	host func() hostMemory
	list func() ([]byte, bool) // output of -L; false: it did not come
}

// smiSnapshot turns one ended run into a result.
func smiSnapshot(res runResult, fields []string, ask smiAsk) Snapshot {
	if s, ok := failedRun(res); !ok {
		return s
	}
	devices, skipped := parseSMI(res.stdout, fields)
	fillUnified(devices, ask.host)
	attachSlices(devices, ask.list)
	s := Snapshot{Devices: devices}
	if i := slices.IndexFunc(devices, func(d Device) bool { return d.Driver != "" }); i >= 0 {
		s.Driver = devices[i].Driver
	}
	switch {
	case s.anyUsable():
		s.Reason = OK
	case len(devices) > 0:
		s.Reason, s.Detail = Failed, "no device is usable"
	case skipped > 0:
		s.Reason, s.Detail = ParseFailed, "no line of nvidia-smi could be read"
	case res.code != 0:
		s.Reason, s.Detail = Failed, fmt.Sprintf("nvidia-smi failed (exit code %d)", res.code)
	default:
		s.Reason, s.Detail = NoDevice, "nvidia-smi lists no device"
	}
	if skipped > 0 {
		s.Detail = strings.TrimPrefix(s.Detail+", skipped "+strconv.Itoa(skipped), ", ")
	}
	return s
}

// failedRun says why a run gave no rows; ok means that its rows are to be read.
func failedRun(res runResult) (s Snapshot, ok bool) {
	switch res.end {
	case startFailed:
		return Snapshot{Reason: Failed, Detail: fmt.Sprintf("nvidia-smi could not be started (errno %d)", res.errno)}, false
	case timedOut:
		return Snapshot{Reason: Timeout, Detail: "nvidia-smi did not answer in time"}, false
	case tooMuch:
		return Snapshot{Reason: ParseFailed, Detail: "nvidia-smi printed too much"}, false
	case hung:
		return Snapshot{Reason: DriverHung, Detail: fmt.Sprintf("nvidia-smi has been hanging in the driver for %d ms", res.age.Milliseconds())}, false
	case ended:
	}
	if reason, text := exitReason(res); reason != OK {
		return Snapshot{Reason: reason, Detail: fmt.Sprintf("%s (exit code %d)", text, res.code)}, false
	}
	return Snapshot{}, true
}

// exitReason maps the tool's exit codes; OK means that the rows are to be read.
func exitReason(res runResult) (Reason, string) {
	switch res.code {
	case 0, exitLost:
		return OK, ""
	case 4:
		return Permission, "nvidia-smi has no permission"
	case 6:
		return NoDevice, "nvidia-smi found no device"
	case 9, 12, 13:
		return NoDriver, "the NVIDIA driver is not loaded"
	case 18:
		return DriverMismatch, "driver and library versions differ"
	}
	text := bytes.ToLower(slices.Concat(res.stderr, res.stdout))
	if bytes.Contains(text, []byte("version mismatch")) {
		return DriverMismatch, "driver and library versions differ"
	}
	return Failed, "nvidia-smi failed"
}
