package gpuinfo

import (
	"slices"
	"strconv"
	"strings"
)

// maskVariables are what a parent may have set to hide devices from its children.
func maskVariables() []string {
	return []string{
		"CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "NVIDIA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES",
		"GPU_DEVICE_ORDINAL", "ZE_AFFINITY_MASK", "ZE_ENABLE_PCI_ID_DEVICE_ORDER",
	}
}

// Env returns the environment of a child process that shall see exactly the units
// of the mask: base without every variable that hides devices, because two masks
// filter twice, and then the variables of the vendor, the one that names the
// devices last. Devices of other vendors are not hidden: the runtimes of two vendors
// read some of the same variables. base is not modified.
//
// Devices are named by UUID. With indices set, for engines that read only integers,
// and where a device of the mask has no UUID, they are named by number: for NVIDIA
// the driver's number in PCI order, for others the position among the devices of
// that vendor. A MIG slice has no number. The empty mask sets CUDA's order of
// devices and nothing else. Errors are those of [Mask.Resolve], and "mig_index".
func (m Mask) Env(s Snapshot, base []string, indices bool) ([]string, error) {
	units, err := m.Resolve(s)
	if err != nil {
		return nil, err
	}
	env := make([]string, 0, len(base)+3)
	for _, v := range base {
		if name, _, _ := strings.Cut(v, "="); !slices.Contains(maskVariables(), name) {
			env = append(env, v)
		}
	}
	const (
		order   = "CUDA_DEVICE_ORDER=PCI_BUS_ID"    // not CUDA's own order, fastest first
		zeOrder = "ZE_ENABLE_PCI_ID_DEVICE_ORDER=1" // nor that of Intel's driver
		zeNone  = "ZE_AFFINITY_MASK=65535"          // empty would restrict nothing
	)
	switch {
	case !m.Restricts():
		return append(env, order), nil
	case m.CPUOnly():
		return append(env, "ROCR_VISIBLE_DEVICES=", zeNone, "CUDA_VISIBLE_DEVICES=-1"), nil
	}
	for i, u := range units {
		if indices && u.MIG != nil {
			return nil, maskError(i, "mig_index", m.entries[i])
		}
		indices = indices || u.UUID == ""
	}
	names := make([]string, len(units))
	for i, u := range units {
		if names[i] = u.UUID; indices {
			names[i] = strconv.Itoa(s.ordinal(u))
		}
	}
	list := strings.Join(names, ",")
	switch units[0].Vendor {
	case "amd":
		return append(env, "ROCR_VISIBLE_DEVICES="+list), nil
	case "intel":
		return append(env, zeOrder, "ZE_AFFINITY_MASK="+list), nil
	default:
		return append(env, order, "CUDA_VISIBLE_DEVICES="+list), nil
	}
}

// ordinal is the number by which the vendor's runtime knows the device.
func (s Snapshot) ordinal(u Unit) int {
	if u.Vendor == "nvidia" {
		return u.Index
	}
	n := 0
	for _, d := range s.Devices {
		if d.Vendor == u.Vendor && d.Index < u.Index {
			n++
		}
	}
	return n
}
