package gpuinfo

import (
	"io/fs"
	"slices"
	"testing/fstest"
)

// ParseSMI lets black-box tests drive the pure parser with the full or basic query.
func ParseSMI(out []byte, basic bool) ([]Device, int) {
	if basic {
		return parseSMI(out, basicFields())
	}
	return parseSMI(out, smiFields())
}

// SMIResult is the pure step from an ended run to a snapshot.
// Memory of the host is read below root, list is the output of -L; "" is none.
func SMIResult(stdout, stderr string, code int, basic bool, root fs.FS, list string) Snapshot {
	fields := smiFields()
	if basic {
		fields = basicFields()
	}
	res := runResult{stdout: []byte(stdout), stderr: []byte(stderr), code: code}
	return smiSnapshot(res, fields, root, func() runResult {
		if list == "" {
			return runResult{end: timedOut}
		}
		return runResult{stdout: []byte(list)}
	})
}

// ParseList is the parser of the output of -L.
func ParseList(out []byte) map[int][]MIGDevice { return parseSMIList(out) }

// ParseProcesses is the parser of the process query.
func ParseProcesses(out []byte) []Process { return parseSMIProcesses(out) }

// NewAutoUnchecked is Auto without the check of the file's owner.
func NewAutoUnchecked(cfg AutoConfig) Provider {
	return newAuto(cfg, func(string) *trustError { return nil })
}

// TrustPath judges one file.
func TrustPath(path string) (Reason, bool) {
	if why := trustedFile(path); why != nil {
		return why.reason, false
	}
	return OK, true
}

// FindTool judges the trusted paths with the given reasons; absent ones are not there.
func FindTool(there map[string]Reason) (string, Reason) {
	path, why := findTool("", func(p string) *trustError {
		switch r := there[p]; r {
		case "":
			return &trustError{NoTool, "not there"}
		case OK:
			return nil
		default:
			return &trustError{r, "refused"}
		}
	})
	if why != nil {
		return "", why.reason
	}
	return path, OK
}

// NormalBusID is the one form of PCI bus ids.
func NormalBusID(s string) (string, bool) { return normalBusID(s) }

// NameInTable looks a product up in the format of libdrm's amdgpu.ids.
func NameInTable(table string, device uint16, revision uint64) string {
	return nameInTable(table, device, revision)
}

// NewSMIUnchecked is NewAutoUnchecked on a machine whose kernel shows no bus, unless
// cfg says otherwise.
func NewSMIUnchecked(cfg AutoConfig) Provider {
	if cfg.Root == nil {
		cfg.Root = fstest.MapFS{}
	}
	return NewAutoUnchecked(cfg)
}

// FieldCount is the number of columns of the full query.
func FieldCount() int { return len(smiFields()) }

// IsAPU reports whether the built-in list has a PCI device id.
func IsAPU(id uint16) bool { return slices.Contains(apuIDs(), id) }

// SMIEnv is the environment of the tool at path.
func SMIEnv(path string) []string { return smiEnv(path) }

// Available reads what the host has left for an integrated device.
func Available(root fs.FS) *uint64 { return readHostMemory(root).free }
