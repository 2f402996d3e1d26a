package gpuinfo

// ParseSMI lets black-box tests drive the pure parser with the full or basic query.
func ParseSMI(out []byte, basic bool) ([]Device, int) {
	if basic {
		return parseSMI(out, basicFields())
	}
	return parseSMI(out, smiFields())
}

// SMIResult is the pure step from an ended run to a snapshot.
func SMIResult(stdout, stderr string, code int, basic bool) Snapshot {
	fields := smiFields()
	if basic {
		fields = basicFields()
	}
	return smiSnapshot(runResult{stdout: []byte(stdout), stderr: []byte(stderr), code: code}, fields)
}

// NewSMIUnchecked is Auto without the check of the file's owner, because tests
// cannot make files of root.
func NewSMIUnchecked(cfg AutoConfig) Provider {
	return newSMI(cfg, func(string) *trustError { return nil })
}

// FieldCount is the number of columns of the full query.
func FieldCount() int { return len(smiFields()) }
