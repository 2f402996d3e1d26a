package gpuinfo_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/llorch/llorch/gpuinfo"
)

// bench drives a tracker of one or more devices by hand.
type bench struct {
	t     *testing.T
	track gpuinfo.Tracker
	now   time.Time
	next  gpuinfo.Snapshot // what the provider says
}

func newBench(t *testing.T, devices int) *bench {
	return &bench{t: t, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), next: machine(devices)}
}

func (b *bench) after(d time.Duration) *bench { b.now = b.now.Add(d); return b }

func (b *bench) xid(codes ...int) *bench {
	for _, c := range codes {
		b.track.Event(gpuinfo.Event{UUID: testUUID(0), XID: c}, b.now)
	}
	return b
}

// is observes and compares the state, action and causes of the first device.
func (b *bench) is(state gpuinfo.State, action gpuinfo.Action, causes ...string) gpuinfo.Snapshot {
	b.t.Helper()
	s := b.track.Observe(b.next, b.now)
	if len(s.Devices) == 0 {
		b.t.Fatalf("no device is listed, want %s", state)
	}
	h := s.Devices[0].Health
	if h.State != state || h.Recovery != action || !slices.Equal(h.Causes, causes) {
		b.t.Errorf("health = %s %q %q, want %s %q %q", h.State, h.Recovery, h.Causes, state, action, causes)
	}
	if free := s.Devices[0].Memory.Free; (state == gpuinfo.Broken || state == gpuinfo.Lost) && free != nil {
		b.t.Errorf("GPU-12: a device that is %s has %d bytes free", state, *free)
	}
	return s
}

// TestTrackerActions (GPU-25): what each kind of action does, and for how long.
func TestTrackerActions(t *testing.T) {
	newBench(t, 1).xid(43).is(gpuinfo.Healthy, "")
	b := newBench(t, 1).xid(13)
	b.is(gpuinfo.Degraded, gpuinfo.RestartApp, "xid 13")
	b.after(5*time.Minute).xid(31, 13).after(10*time.Minute-1).is(gpuinfo.Degraded, gpuinfo.RestartApp, "xid 31", "xid 13")
	b.after(1).is(gpuinfo.Healthy, "")
	for code, action := range map[int]gpuinfo.Action{48: gpuinfo.DrainReset, 95: gpuinfo.Reset, 79: gpuinfo.Reboot, 54: gpuinfo.Contact, 9999: gpuinfo.Contact} {
		b := newBench(t, 1).xid(code)
		cause := fmt.Sprintf("xid %d", code)
		if s := b.is(gpuinfo.Broken, action, cause); s.Reason != gpuinfo.Failed || s.Detail != "no device is usable" {
			t.Errorf("GPU-1: reason %s %q", s.Reason, s.Detail)
		}
		b.after(1000*time.Hour).is(gpuinfo.Broken, action, cause)
	}
	b = newBench(t, 1)
	b.track.Event(gpuinfo.Event{BusID: testBus(0), Action: gpuinfo.DrainReset}, b.now)
	b.is(gpuinfo.Broken, gpuinfo.DrainReset)
}

// TestTrackerMostSevereActionWins: several faults show the worst action and all causes.
func TestTrackerMostSevereActionWins(t *testing.T) {
	b := newBench(t, 2).xid(13, 48, 79, 31)
	s := b.is(gpuinfo.Broken, gpuinfo.Reboot, "xid 13", "xid 48", "xid 79", "xid 31")
	if s.Devices[1].Health.State != gpuinfo.Healthy || s.Reason != gpuinfo.OK {
		t.Errorf("the other device: %+v, reason %s", s.Devices[1].Health, s.Reason)
	}
	for code := 200; code < 300; code++ {
		b.xid(code)
	}
	if h := b.track.Observe(b.next, b.now).Devices[0].Health; len(h.Causes) != 16 || h.State != gpuinfo.Broken {
		t.Errorf("100 kinds of faults: %d causes, %s", len(h.Causes), h.State)
	}
}

// TestTrackerXID45 (GPU-24): 45 follows from another XID within 60 s, before or after
// it; alone it is a crash.
func TestTrackerXID45(t *testing.T) {
	newBench(t, 1).xid(45).is(gpuinfo.Degraded, gpuinfo.RestartApp, "xid 45")
	newBench(t, 1).xid(43).after(60*time.Second).xid(45).is(gpuinfo.Healthy, "")
	newBench(t, 1).xid(43).after(60*time.Second+1).xid(45).is(gpuinfo.Degraded, gpuinfo.RestartApp, "xid 45")
	newBench(t, 1).xid(45).after(60*time.Second).xid(43).is(gpuinfo.Healthy, "")
	newBench(t, 1).xid(45).after(60*time.Second+1).xid(43).is(gpuinfo.Degraded, gpuinfo.RestartApp, "xid 45")
	newBench(t, 1).xid(45).after(time.Second).xid(45).is(gpuinfo.Degraded, gpuinfo.RestartApp, "xid 45")
	b := newBench(t, 2)
	b.track.Event(gpuinfo.Event{UUID: testUUID(1), XID: 43}, b.now)
	b.xid(45).is(gpuinfo.Degraded, gpuinfo.RestartApp, "xid 45") // the other XID was another device's
}

// TestTrackerXID154 (GPU-24): the next snapshot names the action, and an action in a
// snapshot wins over the table.
func TestTrackerXID154(t *testing.T) {
	b := newBench(t, 1).xid(154)
	b.is(gpuinfo.Healthy, "")
	b.next.Devices[0].Health = gpuinfo.Health{State: gpuinfo.Broken, Recovery: gpuinfo.DrainReset}
	b.is(gpuinfo.Broken, gpuinfo.DrainReset)
	b = newBench(t, 1).xid(79)
	b.is(gpuinfo.Broken, gpuinfo.Reboot, "xid 79")
	b.next.Devices[0].Health = gpuinfo.Health{State: gpuinfo.Broken, Recovery: gpuinfo.Reset}
	b.is(gpuinfo.Broken, gpuinfo.Reset, "xid 79")
}

// TestTrap_UnhealthyForEver: a device that was reset, was away and came back, or was
// seen to by an operator works again without a restart of this program (GPU-25).
func TestTrap_UnhealthyForEver(t *testing.T) {
	t.Run("recovery action back to none", func(t *testing.T) {
		b := newBench(t, 1).xid(79)
		b.is(gpuinfo.Broken, gpuinfo.Reboot, "xid 79")
		b.is(gpuinfo.Broken, gpuinfo.Reboot, "xid 79") // no action named yet: silence is no recovery
		b.next.Devices[0].Health = gpuinfo.Health{State: gpuinfo.Broken, Recovery: gpuinfo.Reset}
		b.is(gpuinfo.Broken, gpuinfo.Reset, "xid 79")
		b.next = machine(1)
		b.next.Devices[0].Notes = []gpuinfo.Note{{Field: "recovery", Why: "unknown_error"}}
		b.is(gpuinfo.Broken, gpuinfo.Reboot, "xid 79") // unknown is not none
		b.next = machine(1)
		b.is(gpuinfo.Healthy, "")
	})
	t.Run("away and back", func(t *testing.T) {
		b := newBench(t, 2).xid(79)
		b.is(gpuinfo.Broken, gpuinfo.Reboot, "xid 79")
		b.next.Devices = b.next.Devices[1:]
		b.is(gpuinfo.Lost, gpuinfo.Reboot, "xid 79")
		b.next = machine(2)
		b.is(gpuinfo.Healthy, "")
	})
	t.Run("lost by its provider's word and back", func(t *testing.T) {
		b := newBench(t, 1).xid(79)
		b.next.Devices[0].Health.State = gpuinfo.Lost
		b.is(gpuinfo.Lost, gpuinfo.Reboot, "xid 79")
		b.next = machine(1)
		b.is(gpuinfo.Healthy, "")
	})
	t.Run("cleared", func(t *testing.T) {
		b := newBench(t, 1).xid(54)
		b.is(gpuinfo.Broken, gpuinfo.Contact, "xid 54")
		b.track.Clear(testUUID(1), b.now)
		b.is(gpuinfo.Broken, gpuinfo.Contact, "xid 54")
		b.track.Clear(testUUID(0), b.now)
		b.is(gpuinfo.Healthy, "")
		b.xid(54).is(gpuinfo.Broken, gpuinfo.Contact, "xid 54")
		b.track.Clear("", b.now)
		b.is(gpuinfo.Broken, gpuinfo.Contact, "xid 54")
		b.track.Clear(testBus(0), b.now)
		b.is(gpuinfo.Healthy, "")
	})
	t.Run("after a reboot", func(t *testing.T) {
		newBench(t, 1).xid(79).is(gpuinfo.Broken, gpuinfo.Reboot, "xid 79")
		newBench(t, 1).is(gpuinfo.Healthy, "") // nothing is on disk
	})
}

// TestTrackerLost (GPU-25): a device that is gone stays listed for 10 minutes.
func TestTrackerLost(t *testing.T) {
	b := newBench(t, 1)
	b.is(gpuinfo.Healthy, "")
	b.next = gpuinfo.Snapshot{Reason: gpuinfo.NoDevice}
	since := b.now
	s := b.is(gpuinfo.Lost, "")
	if s.Reason != gpuinfo.NoDevice || s.Devices[0].UUID != testUUID(0) || *s.Devices[0].Memory.Total != 1<<30 || !s.Devices[0].Health.Since.Equal(since) {
		t.Errorf("lost: %+v", s)
	}
	if s := b.after(10*time.Minute-1).is(gpuinfo.Lost, ""); !s.Devices[0].Health.Since.Equal(since) {
		t.Errorf("Since moved to %v", s.Devices[0].Health.Since)
	}
	if s := b.track.Observe(b.next, b.now.Add(1)); len(s.Devices) != 0 {
		t.Errorf("listed for more than 10 minutes: %v", s.Devices)
	}
}

// TestTrackerLostKeepsIndexesApart: another device may have got the number of the
// one that is gone.
func TestTrackerLostKeepsIndexesApart(t *testing.T) {
	b := newBench(t, 3)
	b.is(gpuinfo.Healthy, "")
	b.next.Devices = b.next.Devices[1:]
	b.next.Devices[0].Index, b.next.Devices[1].Index = 0, 1
	s := b.track.Observe(b.next, b.now)
	if len(s.Devices) != 3 || s.Devices[2].Index != 2 || s.Devices[2].UUID != testUUID(0) || s.Devices[2].Health.State != gpuinfo.Lost || s.Devices[0].UUID != testUUID(1) {
		t.Errorf("devices = %+v", s.Devices)
	}
}

// TestTrackerFailedSnapshots: a provider that cannot answer says nothing about its
// devices, and a line that could not be read proves no absence.
func TestTrackerFailedSnapshots(t *testing.T) {
	for _, reason := range []gpuinfo.Reason{gpuinfo.DriverHung, gpuinfo.Timeout, gpuinfo.ParseFailed, gpuinfo.Permission} {
		b := newBench(t, 1).xid(79)
		b.is(gpuinfo.Broken, gpuinfo.Reboot, "xid 79")
		b.next = gpuinfo.Snapshot{Reason: reason}
		if s := b.track.Observe(b.next, b.now); s.Reason != reason || len(s.Devices) != 0 {
			t.Errorf("%s became %+v", reason, s)
		}
		b.next = machine(1)
		b.is(gpuinfo.Broken, gpuinfo.Reboot, "xid 79")
	}
	b := newBench(t, 2).xid(79)
	b.is(gpuinfo.Broken, gpuinfo.Reboot, "xid 79")
	b.next.Devices, b.next.Detail = b.next.Devices[1:], "skipped 1"
	b.is(gpuinfo.Lost, gpuinfo.Reboot, "xid 79")
	b.next = machine(2)
	b.is(gpuinfo.Broken, gpuinfo.Reboot, "xid 79")
	b.next.Stale, b.next.Devices = true, b.next.Devices[1:]
	b.track.Observe(b.next, b.now)
	b.next = machine(2)
	b.is(gpuinfo.Broken, gpuinfo.Reboot, "xid 79")
}

// TestTrackerNotHealedByIgnorance (GPU-25): that a driver gave no answer is no
// recovery, even where another vendor's device makes the snapshot OK.
func TestTrackerNotHealedByIgnorance(t *testing.T) {
	b := newBench(t, 2).xid(95)
	b.is(gpuinfo.Broken, gpuinfo.Reset, "xid 95")
	b.next.Devices, b.next.Detail = b.next.Devices[1:], "nvidia-smi did not answer in time"
	b.is(gpuinfo.Lost, gpuinfo.Reset, "xid 95")
	b.next = machine(2)
	b.is(gpuinfo.Broken, gpuinfo.Reset, "xid 95")

	b = newBench(t, 1)
	b.next.Devices[0].Health = gpuinfo.Health{State: gpuinfo.Broken, Recovery: gpuinfo.Reset}
	b.is(gpuinfo.Broken, gpuinfo.Reset)
	bus := gpuinfo.Device{Index: 0, Vendor: "nvidia", BusID: testBus(0), Health: gpuinfo.Health{State: gpuinfo.Healthy}}
	b.next = gpuinfo.Snapshot{Reason: gpuinfo.DriverMissing, Devices: []gpuinfo.Device{bus}}
	b.is(gpuinfo.Broken, gpuinfo.Reset)
	b.xid(79).is(gpuinfo.Broken, gpuinfo.Reboot, "xid 79") // known by its UUID all the while
	b.next = machine(1)
	b.is(gpuinfo.Healthy, "")

	b = newBench(t, 1)
	b.next.Devices[0].Health = gpuinfo.Health{State: gpuinfo.Broken, Recovery: gpuinfo.Reset}
	b.is(gpuinfo.Broken, gpuinfo.Reset)
	b.next = machine(1)
	for _, why := range []string{"no_permission", "unknown_error", "not_supported"} {
		b.next.Devices[0].Notes = []gpuinfo.Note{{Field: "recovery", Why: why}}
		if why == "not_supported" { // an old library, which had said it by other calls
			b.is(gpuinfo.Healthy, "")
		} else {
			b.is(gpuinfo.Broken, gpuinfo.Reset)
		}
	}
}

// TestTrackerTemperature (GPU-26): 85 °C degrades; 95 °C fails until it was below
// 85 °C for 60 s.
func TestTrackerTemperature(t *testing.T) {
	b := newBench(t, 1)
	at := func(c int) *bench { b.next.Devices[0].TempC = &c; return b }
	at(84).is(gpuinfo.Healthy, "")
	at(85).is(gpuinfo.Degraded, "", "temp_high")
	at(94).is(gpuinfo.Degraded, "", "temp_high")
	at(84).is(gpuinfo.Healthy, "")
	at(95).is(gpuinfo.Broken, "", "temp_critical")
	at(90).is(gpuinfo.Broken, "", "temp_critical")
	at(80).is(gpuinfo.Broken, "", "temp_critical")
	at(80).after(60*time.Second-1).is(gpuinfo.Broken, "", "temp_critical")
	at(85).is(gpuinfo.Broken, "", "temp_critical") // not cool for 60 s: from the beginning
	at(80).is(gpuinfo.Broken, "", "temp_critical")
	b.next.Devices[0].TempC = nil
	b.after(59*time.Second).is(gpuinfo.Broken, "", "temp_critical") // unknown is not cool
	at(80).after(time.Second).is(gpuinfo.Broken, "", "temp_critical")
	at(80).after(60*time.Second).is(gpuinfo.Healthy, "")
}

// TestTrackerECC (GPU-26): new uncorrected errors degrade, old ones do not, and a
// counter at zero proves nothing.
func TestTrackerECC(t *testing.T) {
	b := newBench(t, 1)
	count := func(n int64) *bench { b.next.Devices[0].ECCUncorrected = &n; return b }
	count(7).is(gpuinfo.Healthy, "")
	count(7).is(gpuinfo.Healthy, "")
	count(8).is(gpuinfo.Degraded, "", "ecc")
	b.next.Devices[0].ECCUncorrected = nil
	b.after(10*time.Minute-1).is(gpuinfo.Degraded, "", "ecc")
	b.after(1).is(gpuinfo.Healthy, "")
	count(9).is(gpuinfo.Degraded, "", "ecc")
	count(0).is(gpuinfo.Degraded, "", "ecc")
	b.xid(95)
	count(0).after(time.Hour).is(gpuinfo.Broken, gpuinfo.Reset, "xid 95")
}

// TestTrackerIdentity: another card in the same slot is another device; an event may
// name the bus id only, or a slice; 256 devices are the limit.
func TestTrackerIdentity(t *testing.T) {
	b := newBench(t, 1).xid(79)
	b.is(gpuinfo.Broken, gpuinfo.Reboot, "xid 79")
	b.next.Devices[0].UUID = testUUID(5)
	if s := b.track.Observe(b.next, b.now); s.Devices[0].Health.State != gpuinfo.Healthy {
		t.Errorf("a new card inherited %+v", s.Devices[0].Health)
	}
	b = newBench(t, 1)
	b.next = mixedMachine()
	b.track.Observe(b.next, b.now)
	b.track.Event(gpuinfo.Event{UUID: slice, XID: 95}, b.now)
	if s := b.track.Observe(b.next, b.now); s.Devices[2].Health.State != gpuinfo.Broken {
		t.Errorf("the device of the slice: %+v", s.Devices[2].Health)
	}
	b = newBench(t, 1)
	b.is(gpuinfo.Healthy, "")
	for i := range 1000 {
		b.track.Event(gpuinfo.Event{UUID: testUUID(i + 10), XID: 79}, b.now)
	}
	b.track.Event(gpuinfo.Event{XID: 79}, b.now) // names nobody
	b.after(10*time.Minute).is(gpuinfo.Healthy, "")
	b.next = machine(2) // those that nobody listed are forgotten and make room
	if s := b.track.Observe(b.next, b.now); s.Devices[1].Health.State != gpuinfo.Healthy {
		t.Errorf("second device: %+v", s.Devices[1].Health)
	}
	b.track.Event(gpuinfo.Event{UUID: testUUID(1), XID: 79}, b.now)
	if s := b.track.Observe(b.next, b.now); s.Devices[1].Health.State != gpuinfo.Broken {
		t.Error("a device that came after a flood of events is not tracked")
	}
}

// TestTrackerLeavesItsInputAlone: Observe changes a copy.
func TestTrackerLeavesItsInputAlone(t *testing.T) {
	b := newBench(t, 1).xid(79)
	s := b.is(gpuinfo.Broken, gpuinfo.Reboot, "xid 79")
	if b.next.Devices[0].Memory.Free == nil || b.next.Devices[0].Health.State != gpuinfo.Healthy {
		t.Error("Observe changed its argument")
	}
	*s.Devices[0].Memory.Total = 1
	b.next = gpuinfo.Snapshot{Reason: gpuinfo.NoDevice}
	if s := b.is(gpuinfo.Lost, gpuinfo.Reboot, "xid 79"); *s.Devices[0].Memory.Total != 1<<30 {
		t.Error("a caller's change reached the tracker")
	}
}

func ExampleTracker() {
	var track gpuinfo.Tracker
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	snap := machine(1) // on a real machine: a provider's snapshot

	track.Event(gpuinfo.Event{UUID: snap.Devices[0].UUID, XID: 79}, now)
	h := track.Observe(snap, now).Devices[0].Health
	fmt.Println(h.State, h.Recovery, h.Causes)

	track.Clear(snap.Devices[0].UUID, now)
	fmt.Println(track.Observe(snap, now).Devices[0].Health.State)
	// Output:
	// failed reboot [xid 79]
	// ok
}
