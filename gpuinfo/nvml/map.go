//go:build linux && cgo

package nvml

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/llorch/llorch/gpuinfo"
)

const (
	maxName   = 256
	maxText   = 64
	maxMemory = 16 << 40 // more than any device has
	vendorID  = 0xffff   // of a PCI id as the library gives it
)

// reasonOf maps the failure of a call that concerns the whole machine.
func reasonOf(ret gonvml.Return) (gpuinfo.Reason, string) {
	switch ret {
	case gonvml.ERROR_LIBRARY_NOT_FOUND:
		return gpuinfo.NoTool, "libnvidia-ml was not found"
	case gonvml.ERROR_DRIVER_NOT_LOADED:
		return gpuinfo.NoDriver, "the NVIDIA driver is not loaded"
	case gonvml.ERROR_LIB_RM_VERSION_MISMATCH:
		return gpuinfo.DriverMismatch, "driver and library versions differ"
	case gonvml.ERROR_NO_PERMISSION:
		return gpuinfo.Permission, "the driver may not be asked"
	}
	return gpuinfo.Failed, "the library failed (code " + strconv.Itoa(int(ret)) + ")"
}

// whyOf maps the failure of a call that concerns one value: the word of a note.
func whyOf(ret gonvml.Return) string {
	switch ret {
	case gonvml.ERROR_NOT_SUPPORTED, gonvml.ERROR_FUNCTION_NOT_FOUND, gonvml.ERROR_ARGUMENT_VERSION_MISMATCH, gonvml.ERROR_DEPRECATED:
		return "not_supported" // "cannot tell", not "broken"
	case gonvml.ERROR_NO_PERMISSION:
		return "no_permission"
	case gonvml.ERROR_GPU_IS_LOST:
		return "lost"
	case gonvml.ERROR_RESET_REQUIRED:
		return "reset_required"
	case gonvml.ERROR_NO_DATA, gonvml.ERROR_NOT_FOUND:
		return "not_available"
	}
	return "unknown_error"
}

// recoveryOf maps the value of field 230.
func recoveryOf(v gonvml.FieldValue) gpuinfo.Action {
	n := uint64(binary.NativeEndian.Uint32(v.Value[:]))
	if t := gonvml.ValueType(v.ValueType); t == gonvml.VALUE_TYPE_UNSIGNED_LONG || t == gonvml.VALUE_TYPE_UNSIGNED_LONG_LONG || t == gonvml.VALUE_TYPE_SIGNED_LONG_LONG {
		n = binary.NativeEndian.Uint64(v.Value[:])
	}
	switch n {
	case 0:
		return ""
	case 1:
		return gpuinfo.Reset
	case 2:
		return gpuinfo.Reboot
	case 3, 4:
		return gpuinfo.DrainReset
	}
	return gpuinfo.Contact // 5, and what newer drivers may add
}

// busID writes the address as gpuinfo does, "0000:3b:00.0"; "" where there is none.
func busID(pci gonvml.PciInfo) string {
	if pci.BusId[0] == 0 && pci.Domain == 0 && pci.Bus == 0 && pci.Device == 0 {
		return "" // no address: the host bridge has this one
	}
	domain := fmt.Sprintf("%04x", pci.Domain)
	if pci.Domain > 0xffff {
		domain = fmt.Sprintf("%08x", pci.Domain)
	}
	return fmt.Sprintf("%s:%02x:%02x.0", domain, pci.Bus, pci.Device)
}

// clean bounds text of a driver and replaces what a terminal could obey or not show.
func clean(s string, limit int) string {
	s = strings.Map(func(c rune) rune {
		if strconv.IsPrint(c) {
			return c
		}
		return utf8.RuneError
	}, s)
	return strings.ToValidUTF8(s[:min(len(s), limit)], "") // without the half of a character
}
