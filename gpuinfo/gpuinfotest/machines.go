package gpuinfotest

import (
	"fmt"

	"github.com/llorch/llorch/gpuinfo"
)

const gib = uint64(1) << 30

// RTX3090x1 is a workstation with one card of 24 GiB.
func RTX3090x1() *Machine {
	return newMachine("rtx3090x1", "550.54.14", rtx3090(0x01))
}

// RTX3090And3060 is a workstation with cards of 24 GiB and 12 GiB.
func RTX3090And3060() *Machine {
	return newMachine("rtx3090and3060", "550.54.14", rtx3090(0x01), card("NVIDIA GeForce RTX 3060", 0x02, 0x10de2504, 12*gib, 8, 6))
}

// H200x8 is a server with eight cards of 140 GiB.
func H200x8() *Machine {
	var devices []gpuinfo.Device
	for i := range 8 {
		d := card("NVIDIA H200", 0x18+0x10*i, 0x10de2335, 143771<<20, 9, 0)
		d.ECCUncorrected = new(int64)
		devices = append(devices, d)
	}
	return newMachine("h200x8", "570.86.15", devices...)
}

// H100MIG is a server with one card of 80 GiB, split into slices of 40, 20 and 10 GiB,
// and one that is whole.
func H100MIG() *Machine {
	split := card("NVIDIA H100 80GB HBM3", 0x1b, 0x10de2330, 81559<<20, 9, 0)
	split.MIGEnabled = true
	for i, profile := range []struct {
		name string
		size uint64
		gi   int
	}{{"3g.40gb", 40448 << 20, 1}, {"2g.20gb", 20096 << 20, 5}, {"1g.10gb", 9984 << 20, 13}} {
		split.MIG = append(split.MIG, gpuinfo.MIGDevice{
			UUID: fmt.Sprintf("MIG-%08x-1b00-5000-8000-000000000000", i+1), Profile: profile.name, GI: profile.gi,
			Memory: memory(gpuinfo.Slice, profile.size),
		})
	}
	return newMachine("h100mig", "570.86.15", split, card("NVIDIA H100 80GB HBM3", 0x43, 0x10de2330, 81559<<20, 9, 0))
}

// GB10 is a small machine whose GPU shares 120 GiB with the host.
func GB10() *Machine {
	d := card("NVIDIA GB10", 0x01, 0x10de2e12, 0, 12, 1)
	d.BusID = "000f:01:00.0"
	d.Memory = memory(gpuinfo.Unified, 120*gib)
	d.Memory.Source = "meminfo"
	return newMachine("gb10", "580.95.05", d)
}

// StrixHalo is an AMD machine whose GPU has 512 MiB set aside and may use most of the
// 128 GiB of the host. It has no UUID.
func StrixHalo() *Machine {
	d := card("AMD Radeon 8060S", 0xc5, 0x10021586, 0, 0, 0)
	d.Vendor, d.UUID = "amd", ""
	d.Memory = memory(gpuinfo.Carveout, gib/2+120*gib)
	d.Memory.Source = "sysfs"
	return newMachine("strixhalo", "", d)
}

// NoGPU is a machine without a device.
func NoGPU() *Machine { return newMachine("nogpu", "") }

// BrokenDriver is [RTX3090x1] after an update of the driver, before the reboot.
func BrokenDriver() *Machine {
	m := newMachine("brokendriver", "550.54.14", rtx3090(0x01))
	m.broken = gpuinfo.Snapshot{Reason: gpuinfo.DriverMismatch, Detail: "driver and library versions differ"}
	return m
}

// HungDriver is [RTX3090x1] with a driver that does not answer.
func HungDriver() *Machine {
	m := newMachine("hungdriver", "550.54.14", rtx3090(0x01))
	m.broken = gpuinfo.Snapshot{Reason: gpuinfo.DriverHung, Detail: "the driver does not answer"}
	return m
}

func rtx3090(bus int) gpuinfo.Device {
	return card("NVIDIA GeForce RTX 3090", bus, 0x10de2204, 24*gib, 8, 6)
}

// card is a healthy NVIDIA card in slot bus whose memory is all free.
func card(name string, bus int, pci uint32, size uint64, major, minor int) gpuinfo.Device {
	return gpuinfo.Device{
		UUID: fmt.Sprintf("GPU-%08x-%04x-5000-8000-000000000000", pci, bus), BusID: fmt.Sprintf("0000:%02x:00.0", bus),
		Name: name, Vendor: "nvidia", PCIID: pci, Compute: gpuinfo.Capability{Major: major, Minor: minor},
		Memory: memory(gpuinfo.Dedicated, size), TempC: new(41), UtilPercent: new(int),
		Health: gpuinfo.Health{State: gpuinfo.Healthy},
	}
}

func memory(kind gpuinfo.MemoryKind, size uint64) gpuinfo.Memory {
	return gpuinfo.Memory{Kind: kind, Total: new(size), Used: new(uint64), Free: new(size), Source: "gpuinfotest"}
}
