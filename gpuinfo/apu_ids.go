package gpuinfo

import "slices"

// apuIDs are the PCI device ids of AMD processors with graphics whose memory is a
// part of the host's, as of 2025-10. [AutoConfig].APUs adds newer ones.
func apuIDs() []uint16 {
	return []uint16{
		0x1114, 0x13c0, 0x1435, 0x1506, 0x150e, 0x1586, 0x15bf, 0x15c8, 0x15d8, 0x15dd, 0x15e7, 0x1636, 0x1638,
		0x163f, 0x164c, 0x164e, 0x1681, 0x1900, 0x1901,
	}
}

func isAPU(id uint16, more []uint16) bool {
	return slices.Contains(apuIDs(), id) || slices.Contains(more, id)
}
