package gpuinfo_test

import (
	"slices"
	"testing"
	"time"

	"github.com/llorch/llorch/gpuinfo"
	"pgregory.net/rapid"
)

// trackerModel follows one device by the words of GPU-24 to GPU-26, as a history of
// what happened instead of a state.
type trackerModel struct {
	now     time.Time
	events  []modelEvent // since the last recovery
	named   bool         // a snapshot named an action since then
	away    time.Time    // zero: here
	forget  bool         // away for too long
	hot     bool
	coolAt  time.Time
	lastXID time.Time // other than 45
	heard   time.Time // last event of any kind
}

type modelEvent struct {
	xid    int
	action gpuinfo.Action
	at     time.Time
}

func (m *trackerModel) recover() {
	*m = trackerModel{now: m.now, lastXID: m.lastXID, heard: m.heard, forget: m.forget, away: m.away}
}

// want is the state that the device must have now, given its temperature.
func (m *trackerModel) want(temp int) gpuinfo.State {
	state := gpuinfo.Healthy
	for _, e := range m.events {
		switch {
		case e.action == gpuinfo.RestartApp && m.now.Sub(e.at) < 10*time.Minute && state == gpuinfo.Healthy:
			state = gpuinfo.Degraded
		case e.action != gpuinfo.RestartApp && e.action != "":
			state = gpuinfo.Broken
		}
	}
	switch {
	case m.hot:
		return gpuinfo.Broken
	case temp >= 85 && state == gpuinfo.Healthy:
		return gpuinfo.Degraded
	}
	return state
}

// TestTrackerModel (GPU-24, GPU-25, GPU-26) drives the tracker through events,
// snapshots and time beside a model of its rules. Invariants:
//
//	1 a failed device is ok again only after a recovery
//	2 a device is degraded for 10 minutes after the last event that asks for a restart
//	3 a device that is gone is listed as lost for 10 minutes, and no longer
//	4 a failed or lost device has unknown free memory
//	5 Reason is OK if and only if a device is usable
func TestTrackerModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var track gpuinfo.Tracker
		m := &trackerModel{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
		track.Observe(machine(1), m.now)
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			m.now = m.now.Add(time.Duration(rapid.SampledFrom([]int{0, 1, 30, 60, 61, 300, 599, 600}).Draw(t, "s")) * time.Second)
			switch op := rapid.IntRange(0, 9).Draw(t, "op"); op {
			case 0:
				track.Clear(testUUID(0), m.now)
				m.recover()
			case 1, 2, 3:
				xid := rapid.SampledFrom([]int{13, 31, 43, 45, 45, 48, 79, 95, 154, 4711}).Draw(t, "xid")
				track.Event(gpuinfo.Event{UUID: testUUID(0), XID: xid}, m.now)
				m.event(xid)
			default:
				m.snapshot(t, &track, op)
			}
		}
	})
}

func (m *trackerModel) event(xid int) {
	m.heard = m.now
	if xid == 45 {
		if m.lastXID.IsZero() || m.now.Sub(m.lastXID) > time.Minute {
			m.events = slices.DeleteFunc(m.events, func(e modelEvent) bool { return e.xid == 45 }) // a run of them is one
			m.events = append(m.events, modelEvent{xid, gpuinfo.RestartApp, m.now})
		}
		return
	}
	m.lastXID = m.now
	m.events = slices.DeleteFunc(m.events, func(e modelEvent) bool { return e.xid == 45 && m.now.Sub(e.at) <= time.Minute })
	_, action := gpuinfo.LookupXID(xid)
	m.events = append(m.events, modelEvent{xid, action, m.now})
}

// snapshot lets the tracker observe one, and compares.
func (m *trackerModel) snapshot(t *rapid.T, track *gpuinfo.Tracker, op int) {
	s := machine(1)
	temp := rapid.SampledFrom([]int{40, 40, 40, 84, 85, 94, 95}).Draw(t, "temp")
	s.Devices[0].TempC = &temp
	switch op {
	case 4: // gone
		s = gpuinfo.Snapshot{Reason: gpuinfo.NoDevice}
		if m.away.IsZero() && !m.forget {
			m.away = m.now
		}
		if !m.forget && m.now.Sub(m.away) >= 10*time.Minute {
			*m = trackerModel{now: m.now, forget: true}
		} else if m.forget {
			m.recover()
			if !m.heard.IsZero() {
				m.away = m.now // it was heard of, is not there, and to come back is a recovery
			}
			m.expire()
		}
		got := track.Observe(s, m.now)
		switch {
		case m.forget && len(got.Devices) != 0:
			t.Fatalf("invariant 3: still listed after %v", m.now.Sub(m.away))
		case !m.forget && (len(got.Devices) != 1 || got.Devices[0].Health.State != gpuinfo.Lost || got.Devices[0].Memory.Free != nil):
			t.Fatalf("invariant 3, 4: %+v", got.Devices)
		case got.Reason != gpuinfo.NoDevice:
			t.Fatalf("invariant 5: reason %s", got.Reason)
		}
		return
	case 5: // the provider failed: nothing is learned
		track.Observe(gpuinfo.Snapshot{Reason: gpuinfo.Timeout}, m.now)
		m.expire()
		return
	}
	if !m.away.IsZero() {
		m.recover()
	}
	m.forget, m.away = false, time.Time{}
	action := gpuinfo.Action("")
	if op == 6 {
		action = gpuinfo.Reset
		s.Devices[0].Health = gpuinfo.Health{State: gpuinfo.Broken, Recovery: action}
		m.named = true
		m.events = append(m.events, modelEvent{0, action, m.now})
	} else if m.named {
		m.recover()
	}
	m.feel(temp)
	got := track.Observe(s, m.now)
	h := got.Devices[0].Health
	if want := m.want(temp); h.State != want {
		t.Fatalf("invariants 1, 2: %s, want %s; %q, history %v", h.State, want, h.Causes, m.events)
	}
	if action != "" && h.Recovery != action {
		t.Fatalf("recovery %q, the snapshot says %q", h.Recovery, action)
	}
	if (got.Devices[0].Memory.Free == nil) != (h.State == gpuinfo.Broken) {
		t.Fatalf("invariant 4: %s with %v", h.State, got.Devices[0].Memory)
	}
	if (got.Reason == gpuinfo.OK) != got.Devices[0].Usable() {
		t.Fatalf("invariant 5: %s with %s", got.Reason, h.State)
	}
}

// expire forgets a device 10 minutes after it went, and events of one that is not
// listed 10 minutes after the last.
func (m *trackerModel) expire() {
	gone := !m.forget && !m.away.IsZero() && m.now.Sub(m.away) >= 10*time.Minute
	if gone || m.forget && m.now.Sub(m.heard) >= 10*time.Minute {
		*m = trackerModel{now: m.now, forget: true}
	}
}

func (m *trackerModel) feel(temp int) {
	switch {
	case temp >= 95:
		m.hot, m.coolAt = true, time.Time{}
	case temp >= 85:
		m.coolAt = time.Time{}
	case m.coolAt.IsZero():
		m.coolAt = m.now
	case m.now.Sub(m.coolAt) >= time.Minute:
		m.hot = false
	}
}
