package gpuinfo

// LookupXID returns the name of an XID, NVIDIA's number for a fault ("" where this
// package has none), and what brings the device back. The table is dated 2025-10,
// from NVIDIA's XID catalogue. A code that is not in it demands [Contact], so that
// a fault of a newer driver is not taken for a harmless one.
//
// Two codes cannot be judged alone, see [Tracker]: 45 follows other faults and is
// RestartApp here; 154 announces an action that only the next snapshot names, and
// demands nothing here.
func LookupXID(code int) (name string, a Action) {
	switch code {
	case 14, 37, 38, 43, 44, 63, 66, 67, 92, 93, 106, 107, 108, 121, 137, 141, 152, 153, 154, 157, 160, 161, 162, 163, 164, 165:
		a = ""
	case 8, 11, 13, 25, 31, 32, 39, 40, 41, 45, 60, 68, 69, 70, 71, 72, 75, 76, 77, 80, 82, 83, 84, 85, 86, 88, 89, 94, 96, 97, 98, 99,
		100, 101, 102, 103, 104, 105, 126, 127, 128, 129, 130, 131, 132, 133, 134, 135, 139:
		a = RestartApp
	case 48, 74, 144, 145, 146, 147, 148, 149, 150:
		a = DrainReset
	case 46, 62, 64, 95, 109, 110, 119, 120, 136, 140, 143, 155, 156, 158:
		a = Reset
	case 79, 151:
		a = Reboot
	default:
		a = Contact
	}
	return xidName(code), a
}

// xidName knows the faults that operators meet most.
func xidName(code int) string {
	return map[int]string{
		8: "GPU stopped processing", 13: "graphics engine exception", 31: "memory page fault", 32: "corrupted push buffer",
		43: "program's channel stopped", 45: "channels removed early", 48: "uncorrectable memory error",
		62: "internal micro-controller halted", 63: "memory row remap recorded", 64: "memory row remap failed",
		69: "graphics engine class error", 74: "NVLink error", 79: "GPU has fallen off the bus", 92: "many corrected memory errors",
		94: "contained memory error", 95: "uncontained memory error", 109: "context switch timeout",
		119: "GPU system processor failed", 120: "GPU system processor failed", 140: "unrecovered memory error", 154: "recovery action changed",
	}[code]
}
