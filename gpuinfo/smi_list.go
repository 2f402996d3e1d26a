package gpuinfo

import (
	"bytes"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// attachSlices gives devices with MIG enabled the slices that `nvidia-smi -L` lists.
// Their memory is what the profile's name promises: what is in use nobody tells.
func attachSlices(devices []Device, list func() runResult) {
	if !slices.ContainsFunc(devices, func(d Device) bool { return d.MIGEnabled }) {
		return
	}
	res := list()
	listed := res.end == ended && res.code == 0
	found := parseSMIList(res.stdout)
	for i := range devices {
		d := &devices[i]
		switch {
		case d.MIGEnabled && !listed:
			d.note(migField, "not_available")
		case d.MIGEnabled && len(found[d.Index]) > 0:
			d.MIG = found[d.Index]
			d.note(migField, "nominal")
		}
	}
}

// parseSMIList reads the slices by the index of their device. Lines that it does not
// understand belong to nobody and are left out.
func parseSMIList(out []byte) map[int][]MIGDevice {
	device := regexp.MustCompile(`^GPU [0-9]{1,5}:`)
	// Old drivers name slices MIG-GPU-<uuid>/<GPU instance>/<compute instance>.
	slice := regexp.MustCompile(`^MIG ((?:[0-9]{1,3}c\.)?[0-9]{1,3}g\.([0-9]{1,4})gb(?:\+[a-z0-9.+]{1,16})?) +Device +[0-9]+: \(UUID: (MIG-[0-9A-Za-z-]{1,50}(?:/([0-9]{1,3})/([0-9]{1,3}))?)\)`)
	found := map[int][]MIGDevice{}
	index := -1
	for line := range bytes.Lines(out) {
		text := strings.TrimSpace(string(line))
		if strings.HasPrefix(text, "GPU ") {
			index = number(strings.Trim(device.FindString(text), "GPU :"))
			continue
		}
		m := slice.FindStringSubmatch(text)
		if m == nil || index < 0 || len(found[index]) == maxSlices || len(found) > maxDevices {
			continue
		}
		size := uint64(number(m[2])) << 30 // nominal: what is in use nobody tells
		found[index] = append(found[index], MIGDevice{
			UUID: m[3], Profile: m[1], GI: number(m[4]), CI: number(m[5]), Memory: Memory{Kind: Slice, Total: &size, Source: smiName},
		})
	}
	return found
}

// number reads a few digits; -1 stands for none.
func number(digits string) int {
	n, err := strconv.Atoi(digits)
	if err != nil {
		return -1
	}
	return n
}
