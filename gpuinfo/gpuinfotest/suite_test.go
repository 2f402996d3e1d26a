package gpuinfotest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/gpuinfo"
	"github.com/llorch/llorch/gpuinfo/gpuinfotest"
)

func machines() map[string]func() *gpuinfotest.Machine {
	return map[string]func() *gpuinfotest.Machine{
		"RTX3090x1": gpuinfotest.RTX3090x1, "RTX3090And3060": gpuinfotest.RTX3090And3060, "H200x8": gpuinfotest.H200x8,
		"H100MIG": gpuinfotest.H100MIG, "GB10": gpuinfotest.GB10, "StrixHalo": gpuinfotest.StrixHalo, "NoGPU": gpuinfotest.NoGPU,
		"BrokenDriver": gpuinfotest.BrokenDriver, "HungDriver": gpuinfotest.HungDriver,
	}
}

// TestMachines runs the suite over every machine, alone and behind a cache.
func TestMachines(t *testing.T) {
	for name, open := range machines() {
		t.Run(name, func(t *testing.T) {
			gpuinfotest.TestProvider(t, func(*testing.T) gpuinfo.Provider { return open() })
			gpuinfotest.TestProvider(t, func(*testing.T) gpuinfo.Provider { return gpuinfo.NewCache(open(), time.Minute) })
		})
	}
}

func take(t *testing.T, m gpuinfo.Provider) gpuinfo.Snapshot {
	t.Helper()
	s, err := m.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestMachineChanges: use, loss, healing and faults of the driver show in the next
// snapshot.
func TestMachineChanges(t *testing.T) {
	m := gpuinfotest.RTX3090And3060()
	m.SetUsed("GPU1", 3<<30)
	s := take(t, m)
	if d := s.Devices[1]; *d.Memory.Free != 9<<30 || *d.Memory.Used != 3<<30 || *s.Devices[0].Memory.Free != 24<<30 {
		t.Errorf("devices = %+v", s.Devices)
	}
	m.Lose(s.Devices[1].UUID)
	if d := take(t, m).Devices[1]; d.Health.State != gpuinfo.Lost || d.Usable() || d.Memory.Free != nil {
		t.Errorf("lost device = %+v", d)
	}
	m.Lose("0")
	if s := take(t, m); s.Reason != gpuinfo.Failed {
		t.Errorf("no device is left, and the reason is %s", s.Reason)
	}
	m.Heal("1")
	if s := take(t, m); s.Reason != gpuinfo.OK || *s.Devices[1].Memory.Free != 12<<30 {
		t.Errorf("healed: %+v", s)
	}
	m = gpuinfotest.H100MIG()
	slice := take(t, m).Units()[1]
	m.SetUsed(slice.UUID, 1<<40)
	if u := take(t, m).Units()[1]; *u.Memory().Free != 0 || *u.Memory().Used != *u.Memory().Total {
		t.Errorf("a full slice = %v", u.Memory())
	}
	m.Lose("0")
	if u := take(t, m).Units()[1]; u.Usable() || u.Memory().Free != nil {
		t.Errorf("a slice of a lost device = %v", u.Memory())
	}
	for reason, m := range map[gpuinfo.Reason]*gpuinfotest.Machine{gpuinfo.DriverMismatch: gpuinfotest.BrokenDriver(), gpuinfo.DriverHung: gpuinfotest.HungDriver()} {
		if s := take(t, m); s.Reason != reason || len(s.Devices) > 0 {
			t.Errorf("%s: %+v", reason, s)
		}
		m.Heal("")
		if s := take(t, m); s.Reason != gpuinfo.OK || len(s.Devices) != 1 {
			t.Errorf("healed driver: %+v", s)
		}
	}
}

// TestUnknownDevicePanics: a test that names a device that is not there is wrong.
func TestUnknownDevicePanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("Lose of a device that does not exist went well")
		}
	}()
	gpuinfotest.NoGPU().Lose("0")
}

// TestEventsReachEveryListener: also those injected before, and Close ends them.
func TestEventsReachEveryListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := gpuinfotest.RTX3090x1()
		m.Inject(gpuinfo.Event{BusID: "0000:01:00.0", XID: 13})
		got := make(chan string, 10)
		for range 2 {
			go func() {
				for e, err := range m.Events(context.Background()) {
					got <- fmt.Sprint(e.XID, e.At.IsZero(), err)
				}
				got <- "end"
			}()
		}
		synctest.Wait()
		m.Inject(gpuinfo.Event{BusID: "0000:01:00.0", XID: 79})
		synctest.Wait()
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		close(got)
		seen := map[string]int{}
		for line := range got {
			seen[line]++
		}
		if seen["13 false <nil>"] != 2 || seen["79 false <nil>"] != 2 || seen["0 true "+gpuinfo.ErrClosed.Error()] != 2 || seen["end"] != 2 {
			t.Errorf("seen %v", seen)
		}
	})
}

// TestEventsAreBounded: a flood keeps the newest 1024.
func TestEventsAreBounded(t *testing.T) {
	m := gpuinfotest.RTX3090x1()
	for i := range 5000 {
		m.Inject(gpuinfo.Event{BusID: "0000:01:00.0", XID: i + 1})
	}
	n, first := 0, 0
	for e := range m.Events(t.Context()) {
		if n++; n == 1 {
			first = e.XID
		}
		if e.XID == 5000 {
			break
		}
	}
	if n != 1024 || first != 5000-1023 {
		t.Errorf("%d events from %d on", n, first)
	}
}

func TestProcesses(t *testing.T) {
	m := gpuinfotest.RTX3090x1()
	want := gpuinfo.Process{PID: 4711, UUID: take(t, m).Devices[0].UUID, Name: "engine", Used: new(uint64(1 << 30))}
	m.SetProcesses(want)
	if ps, err := m.Processes(t.Context()); err != nil || len(ps) != 1 || ps[0] != want {
		t.Errorf("Processes = %v, %v", ps, err)
	}
}

// TestSuiteFindsFaults: CheckSnapshot is not satisfied with everything.
func TestSuiteFindsFaults(t *testing.T) {
	for name, tt := range map[string]struct {
		spoil func(*gpuinfo.Snapshot)
		want  string
	}{
		"nothing":           {func(*gpuinfo.Snapshot) {}, ""},
		"OK without device": {func(s *gpuinfo.Snapshot) { s.Devices = nil }, "Reason"},
		"device without OK": {func(s *gpuinfo.Snapshot) { s.Reason, s.Detail = gpuinfo.Failed, "x" }, "Reason"},
		"no detail":         {func(s *gpuinfo.Snapshot) { *s = gpuinfo.Snapshot{Reason: gpuinfo.NoTool, Provider: "x", At: s.At} }, "Detail"},
		"a path":            {func(s *gpuinfo.Snapshot) { s.Detail = "open /dev/nvidia0" }, "Detail"},
		"no provider":       {func(s *gpuinfo.Snapshot) { s.Provider = "" }, "Provider"},
		"no time":           {func(s *gpuinfo.Snapshot) { s.At = time.Time{} }, "At"},
		"order":             {func(s *gpuinfo.Snapshot) { s.Devices[0].Index = 5 }, "order"},
		"twice":             {func(s *gpuinfo.Snapshot) { s.Devices[1].UUID = s.Devices[0].UUID }, "twice"},
		"nameless":          {func(s *gpuinfo.Snapshot) { s.Devices[0].UUID, s.Devices[0].BusID = "", "" }, "neither"},
		"bus id":            {func(s *gpuinfo.Snapshot) { s.Devices[0].BusID = "00000000:0A:00.0" }, "BusID"},
		"terminal":          {func(s *gpuinfo.Snapshot) { s.Devices[0].Name = "\x1b[2J" }, "unprintable"},
		"looks empty":       {func(s *gpuinfo.Snapshot) { s.Devices[0].Health.State = gpuinfo.Lost }, "free memory"},
		"too much free":     {func(s *gpuinfo.Snapshot) { *s.Devices[0].Memory.Free = 1 << 60 }, "bytes free"},
		"silent unknown":    {func(s *gpuinfo.Snapshot) { s.Devices[0].Memory.Total = nil }, "no note"},
		"vendor":            {func(s *gpuinfo.Snapshot) { s.Devices[0].Vendor = "acme" }, "JSON"},
	} {
		s := take(t, gpuinfotest.RTX3090And3060())
		tt.spoil(&s)
		err := gpuinfotest.CheckSnapshot(s)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

// TestClosedMachine: every call after Close says so.
func TestClosedMachine(t *testing.T) {
	m := gpuinfotest.GB10()
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Processes(t.Context()); !errors.Is(err, gpuinfo.ErrClosed) {
		t.Errorf("Processes = %v", err)
	}
}

func Example() {
	m := gpuinfotest.RTX3090And3060()
	m.SetUsed("0", 20<<30)
	m.Lose("1")
	s, err := m.Snapshot(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, d := range s.Devices {
		fmt.Println(d.Name, d.Memory, d.Health.State)
	}
	// Output:
	// NVIDIA GeForce RTX 3090 dedicated, 4096 of 24576 MiB free ok
	// NVIDIA GeForce RTX 3060 dedicated, ? of 12288 MiB free lost
}

// TestOwnProviders (GPU-1, GPU-34): the providers of package gpuinfo pass the suite.
func TestOwnProviders(t *testing.T) {
	gpuinfotest.TestProvider(t, func(*testing.T) gpuinfo.Provider { return gpuinfo.Auto(gpuinfo.AutoConfig{Disable: true}) })
	gpuinfotest.TestProvider(t, func(*testing.T) gpuinfo.Provider {
		return gpuinfo.First(gpuinfotest.NoGPU(), gpuinfotest.HungDriver(), gpuinfotest.RTX3090x1())
	})
}
