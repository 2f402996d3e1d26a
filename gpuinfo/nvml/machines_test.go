//go:build linux && cgo

package nvml_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/fstest"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxa100"
	"github.com/llorch/llorch/gpuinfo"
	"github.com/llorch/llorch/gpuinfo/nvml"
)

// library is a machine on go-nvml's mock interfaces. A method that nobody mocked
// panics, as a symbol that the real library lacks ends the process.
type library struct {
	mock.Interface
	mock.ExtendedInterface
	cards   []*gpu
	missing map[string]bool // symbols

	mu     sync.Mutex
	init   gonvml.Return
	count  gonvml.Return
	inits  int
	downs  int
	block  chan struct{} // DeviceGetCount waits for it
	queue  []gonvml.EventData
	wait   gonvml.Return // what Wait says when the queue is empty
	sets   int
	waited []uint32
}

// gpu is one card of it.
type gpu struct {
	mock.Device
	memory   *gonvml.Memory_v2 // nil: not supported
	handle   gonvml.Return
	fails    map[string]gonvml.Return // by function
	recovery uint32
	slices   []*gpu
}

func newLibrary(cards ...*gpu) *library {
	l := &library{cards: cards, missing: map[string]bool{}, wait: gonvml.ERROR_TIMEOUT}
	l.ExtensionsFunc = func() gonvml.ExtendedInterface { return l }
	l.LookupSymbolFunc = func(symbol string) error {
		if l.missing[symbol] {
			return errors.New("undefined symbol")
		}
		return nil
	}
	l.InitFunc = func() gonvml.Return { return locked(l, func() gonvml.Return { l.inits++; return l.init }) }
	l.ShutdownFunc = func() gonvml.Return { return locked(l, func() gonvml.Return { l.downs++; return gonvml.SUCCESS }) }
	l.SystemGetDriverVersionFunc = func() (string, gonvml.Return) { return "570.86.15", gonvml.SUCCESS }
	l.SystemGetProcessNameFunc = func(pid int) (string, gonvml.Return) { return fmt.Sprintf("engine-%d\x1b", pid), gonvml.SUCCESS }
	l.DeviceGetCountFunc = func() (int, gonvml.Return) {
		if block := locked(l, func() chan struct{} { return l.block }); block != nil {
			<-block
		}
		return len(l.cards), locked(l, func() gonvml.Return { return l.count })
	}
	l.DeviceGetHandleByIndexFunc = func(i int) (gonvml.Device, gonvml.Return) { return l.cards[i], l.cards[i].handle }
	l.EventSetCreateFunc = func() (gonvml.EventSet, gonvml.Return) {
		return &mock.EventSet{
			WaitFunc: l.waitEvent,
			FreeFunc: func() gonvml.Return { return locked(l, func() gonvml.Return { l.sets--; return gonvml.SUCCESS }) },
		}, locked(l, func() gonvml.Return { l.sets++; return gonvml.SUCCESS })
	}
	return l
}

func locked[T any](l *library, f func() T) T {
	l.mu.Lock()
	defer l.mu.Unlock()
	return f()
}

func (l *library) waitEvent(ms uint32) (gonvml.EventData, gonvml.Return) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waited = append(l.waited, ms)
	if len(l.queue) == 0 {
		return gonvml.EventData{}, l.wait
	}
	e := l.queue[0]
	l.queue = l.queue[1:]
	return e, gonvml.SUCCESS
}

// newGPU is a healthy card; bus 0 has no address.
func newGPU(name string, bus int, pci uint32, total uint64, major, minor int) *gpu {
	g := &gpu{memory: &gonvml.Memory_v2{Total: total, Reserved: 1 << 29, Used: 1 << 30, Free: total - 1<<30 - 1<<29}, fails: map[string]gonvml.Return{}}
	if total == 0 {
		g.memory = nil
	}
	g.GetUUIDFunc = func() (string, gonvml.Return) {
		return fmt.Sprintf("GPU-%08x-%04x-5000-8000-000000000000", pci, bus), g.fails["uuid"]
	}
	g.GetNameFunc = func() (string, gonvml.Return) { return name, g.fails["name"] }
	g.GetPciInfoFunc = func() (gonvml.PciInfo, gonvml.Return) {
		return gonvml.PciInfo{Bus: uint32(bus), PciDeviceId: pci<<16 | pci>>16}, g.fails["pci"]
	}
	g.GetCudaComputeCapabilityFunc = func() (int, int, gonvml.Return) { return major, minor, g.fails["compute"] }
	g.GetMemoryInfo_v2Func = func() (gonvml.Memory_v2, gonvml.Return) {
		if g.memory == nil {
			return gonvml.Memory_v2{}, gonvml.ERROR_NOT_SUPPORTED
		}
		return *g.memory, g.fails["memory2"]
	}
	g.GetMemoryInfoFunc = func() (gonvml.Memory, gonvml.Return) {
		if g.memory == nil {
			return gonvml.Memory{}, gonvml.ERROR_NOT_SUPPORTED
		}
		return gonvml.Memory{Total: g.memory.Total, Used: g.memory.Used + g.memory.Reserved, Free: g.memory.Free}, g.fails["memory"]
	}
	g.GetAddressingModeFunc = func() (gonvml.DeviceAddressingMode, gonvml.Return) {
		return gonvml.DeviceAddressingMode{}, gonvml.ERROR_NOT_SUPPORTED
	}
	g.GetTemperatureFunc = func(gonvml.TemperatureSensors) (uint32, gonvml.Return) { return 41, g.fails["temperature"] }
	g.GetUtilizationRatesFunc = func() (gonvml.Utilization, gonvml.Return) { return gonvml.Utilization{Gpu: 7}, g.fails["utilization"] }
	g.GetTotalEccErrorsFunc = func(gonvml.MemoryErrorType, gonvml.EccCounterType) (uint64, gonvml.Return) { return 0, g.fails["ecc"] }
	g.GetFieldValuesFunc = func(v []gonvml.FieldValue) gonvml.Return {
		v[0].ValueType = uint32(gonvml.VALUE_TYPE_UNSIGNED_INT)
		binary.NativeEndian.PutUint32(v[0].Value[:], g.recovery)
		v[0].NvmlReturn = uint32(g.fails["field"])
		if v[0].FieldId != 230 {
			v[0].NvmlReturn = uint32(gonvml.ERROR_INVALID_ARGUMENT)
		}
		return g.fails["fields"]
	}
	g.GetComputeRunningProcessesFunc = func() ([]gonvml.ProcessInfo, gonvml.Return) { return nil, g.fails["processes"] }
	g.mockFaults()
	g.mockSlices()
	return g
}

func (g *gpu) mockFaults() {
	g.GetSupportedEventTypesFunc = func() (uint64, gonvml.Return) { return 1<<63 | 2 | 8, g.fails["events"] }
	g.RegisterEventsFunc = func(kinds uint64, _ gonvml.EventSet) gonvml.Return {
		if kinds != 2|8 {
			return gonvml.ERROR_INVALID_ARGUMENT
		}
		return gonvml.SUCCESS
	}
}

func (g *gpu) mockSlices() {
	g.GetMigModeFunc = func() (int, int, gonvml.Return) { return min(len(g.slices), 1), 0, g.fails["mig"] }
	g.GetMaxMigDeviceCountFunc = func() (int, gonvml.Return) { return 7, gonvml.SUCCESS }
	g.GetMigDeviceHandleByIndexFunc = func(i int) (gonvml.Device, gonvml.Return) {
		if i/2 < len(g.slices) && i%2 == 0 { // every second place is empty
			return g.slices[i/2], gonvml.SUCCESS
		}
		return nil, gonvml.ERROR_NOT_FOUND
	}
}

func newSlice(uuid, name string, gi int, a gonvml.DeviceAttributes) *gpu {
	s := newGPU(name, 0, 0, a.MemorySizeMB<<20, 9, 0)
	s.GetUUIDFunc = func() (string, gonvml.Return) { return uuid, gonvml.SUCCESS }
	s.GetGpuInstanceIdFunc = func() (int, gonvml.Return) { return gi, gonvml.SUCCESS }
	s.GetComputeInstanceIdFunc = func() (int, gonvml.Return) { return 0, gonvml.SUCCESS }
	s.GetAttributesFunc = func() (gonvml.DeviceAttributes, gonvml.Return) { return a, gonvml.SUCCESS }
	return s
}

const (
	sliceA = "MIG-11111111-0000-1111-2222-666666666666"
	sliceB = "MIG-22222222-0000-1111-2222-777777777777"
	sliceC = "MIG-33333333-0000-1111-2222-888888888888"
)

func h100() *library {
	split := newGPU("NVIDIA H100 80GB HBM3", 0x1b, 0x10de2330, 81559<<20, 9, 0)
	split.slices = []*gpu{
		newSlice(sliceA, "NVIDIA H100 80GB HBM3 MIG 1g.10gb+me", 13, gonvml.DeviceAttributes{MemorySizeMB: 9984, GpuInstanceSliceCount: 1, ComputeInstanceSliceCount: 1}),
		newSlice(sliceB, "NVIDIA H100 80GB HBM3", 1, gonvml.DeviceAttributes{MemorySizeMB: 40448, GpuInstanceSliceCount: 3, ComputeInstanceSliceCount: 3}),
		newSlice(sliceC, "NVIDIA H100 80GB HBM3", 2, gonvml.DeviceAttributes{MemorySizeMB: 20096, GpuInstanceSliceCount: 2, ComputeInstanceSliceCount: 1}),
	}
	return newLibrary(split, newGPU("NVIDIA H100 80GB HBM3", 0x43, 0x10de2330, 81559<<20, 9, 0))
}

func eight(name string, pci uint32, total uint64, major int) *library {
	var cards []*gpu
	for i := range 8 {
		cards = append(cards, newGPU(name, 0x18+0x10*i, pci, total, major, 0))
	}
	return newLibrary(cards...)
}

// gb10 has no memory of its own, and its driver says so by its addressing mode.
func gb10() *library {
	g := newGPU("NVIDIA GB10", 1, 0x10de2e12, 0, 12, 1)
	g.GetAddressingModeFunc = func() (gonvml.DeviceAddressingMode, gonvml.Return) {
		return gonvml.DeviceAddressingMode{Value: uint32(gonvml.DEVICE_ADDRESSING_MODE_ATS)}, gonvml.SUCCESS
	}
	return newLibrary(g)
}

// blind is a discrete card that does not tell its memory.
func blind() *library {
	return newLibrary(newGPU("NVIDIA Unknown", 1, 0x10de1234, 0, 9, 0), newGPU("NVIDIA L4", 2, 0x10de27b8, 23034<<20, 8, 9))
}

// a100 is go-nvml's own machine, whose library has few functions.
func a100() gonvml.Interface {
	s := dgxa100.New()
	has := map[string]bool{
		"nvmlDeviceGetUUID": true, "nvmlDeviceGetName": true, "nvmlDeviceGetPciInfo_v3": true, "nvmlDeviceGetMemoryInfo": true,
		"nvmlDeviceGetCudaComputeCapability": true, "nvmlDeviceGetMigMode": true, "nvmlSystemGetDriverVersion": true,
	}
	s.LookupSymbolFunc = func(symbol string) error {
		if !has[symbol] {
			return errors.New("undefined symbol")
		}
		return nil
	}
	return s
}

func hostRoot() fstest.MapFS {
	return fstest.MapFS{"proc/meminfo": {Data: []byte("MemTotal:       125829120 kB\nMemAvailable:   104857600 kB\n")}}
}

func open(t testing.TB, lib gonvml.Interface, cfg nvml.Config) *nvml.Provider {
	t.Helper()
	if cfg.Root == nil {
		cfg.Root = hostRoot()
	}
	p, err := nvml.NewWith(cfg, lib)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func snapshot(t testing.TB, p gpuinfo.Provider) gpuinfo.Snapshot {
	t.Helper()
	s, err := p.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// forget takes the functions of a symbol out, so that a call panics.
func (l *library) forget(symbol string) {
	all := symbol == "all"
	for _, c := range slices.Concat(l.cards, l.cards[0].slices) {
		for name, f := range map[string]func(){
			"nvmlDeviceGetUUID": func() { c.GetUUIDFunc = nil }, "nvmlDeviceGetName": func() { c.GetNameFunc = nil },
			"nvmlDeviceGetPciInfo_v3": func() { c.GetPciInfoFunc = nil }, "nvmlDeviceGetCudaComputeCapability": func() { c.GetCudaComputeCapabilityFunc = nil },
			"nvmlDeviceGetMemoryInfo": func() { c.GetMemoryInfoFunc = nil }, "nvmlDeviceGetMemoryInfo_v2": func() { c.GetMemoryInfo_v2Func = nil },
			"nvmlDeviceGetAddressingMode": func() { c.GetAddressingModeFunc = nil }, "nvmlDeviceGetTemperature": func() { c.GetTemperatureFunc = nil },
			"nvmlDeviceGetUtilizationRates": func() { c.GetUtilizationRatesFunc = nil }, "nvmlDeviceGetTotalEccErrors": func() { c.GetTotalEccErrorsFunc = nil },
			"nvmlDeviceGetFieldValues": func() { c.GetFieldValuesFunc = nil }, "nvmlDeviceGetMigMode": func() { c.GetMigModeFunc = nil },
			"nvmlDeviceGetMaxMigDeviceCount": func() { c.GetMaxMigDeviceCountFunc = nil }, "nvmlDeviceGetMigDeviceHandleByIndex": func() { c.GetMigDeviceHandleByIndexFunc = nil },
			"nvmlDeviceGetGpuInstanceId": func() { c.GetGpuInstanceIdFunc = nil }, "nvmlDeviceGetComputeInstanceId": func() { c.GetComputeInstanceIdFunc = nil },
			"nvmlDeviceGetAttributes_v2": func() { c.GetAttributesFunc = nil }, "nvmlDeviceRegisterEvents": func() { c.RegisterEventsFunc = nil },
			"nvmlDeviceGetSupportedEventTypes": func() { c.GetSupportedEventTypesFunc = nil }, "nvmlSystemGetProcessName": func() { l.SystemGetProcessNameFunc = nil },
			"nvmlSystemGetDriverVersion": func() { l.SystemGetDriverVersionFunc = nil }, "nvmlEventSetCreate": func() { l.EventSetCreateFunc = nil },
		} {
			if all || name == symbol {
				f()
			}
		}
	}
}
