package gpuinfo

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Limits of the tracker.
const (
	degradedFor = 10 * time.Minute // after the last event that asks for a restart
	listedFor   = 10 * time.Minute // a device that is gone
	relatedXID  = 60 * time.Second // between an XID and the 45 that follows from it
	coolFor     = 60 * time.Second // below hotC before a device that was too hot works again
	hotC        = 85               // degraded from here
	criticalC   = 95               // failed from here
	maxCauses   = 16
	maxFaults   = 16
)

// XIDs that are judged by what happens around them.
const (
	xidRemoved = 45  // channels removed: alone a crash, after another XID its echo
	xidAction  = 154 // the recovery action changed: the next snapshot names it
)

// Tracker remembers what happened to devices and completes the Health of snapshots.
// A fault that needs a reset, a reboot or a person keeps its device failed until a
// recovery is observed: the driver had named a recovery action and names none any
// more, the device was away and came back, or [Tracker.Clear]. Nothing is kept on
// disk, so a new tracker, as after a reboot, knows of no fault.
//
// The zero value is ready for use. A Tracker reads no clock and starts nothing; it
// is not safe for concurrent use.
type Tracker struct {
	known []*tracked // at most maxDevices
}

// tracked is what is remembered of one device.
type tracked struct {
	symptoms
	last     Device    // as a provider listed it last; only UUID and BusID before that
	seen     bool      // a provider has listed it
	heard    time.Time // when an event came last
	gone     time.Time // since when the device is away; zero: it is here
	vanished bool      // it is really away, not merely missing in an answer
	xid      time.Time // last XID other than 45
	ecc      *int64    // last known number of memory errors
	state    State
	since    time.Time // of state
}

// symptoms are what a recovery takes away.
type symptoms struct {
	faults   []fault
	named    bool      // a snapshot has named a recovery action
	critical bool      // too hot, and not yet cool for long enough
	cool     time.Time // since when it is below hotC; zero: it is not
	eccUntil time.Time // degraded for new memory errors
}

// fault is one kind of event, and when it came last.
type fault struct {
	xid    int
	action Action
	at     time.Time
}

// Event takes in a fault that a driver reported at now. An event that names no
// device, or one beyond 256 devices, is ignored.
func (t *Tracker) Event(e Event, now time.Time) {
	d := t.of(Device{UUID: e.UUID, BusID: e.BusID})
	if d == nil {
		return
	}
	d.heard = now
	action := e.Action
	if action == "" && e.XID != 0 {
		_, action = LookupXID(e.XID)
	}
	switch {
	case e.XID == xidRemoved && e.Action == "" && !d.xid.IsZero() && now.Sub(d.xid) <= relatedXID:
		return
	case e.XID != xidRemoved && e.XID != 0:
		d.xid = now
		d.faults = slices.DeleteFunc(d.faults, func(f fault) bool { return f.xid == xidRemoved && now.Sub(f.at) <= relatedXID })
	}
	if action != "" {
		d.record(fault{e.XID, action, now})
	}
}

// record keeps one fault of each kind, dated by the last.
func (d *tracked) record(f fault) {
	d.faults = slices.DeleteFunc(d.faults, func(o fault) bool { return o.xid == f.xid && o.action == f.action })
	if len(d.faults) == maxFaults { // the mildest makes room, the oldest of those
		slices.SortStableFunc(d.faults, func(a, b fault) int { return severity(a.action) - severity(b.action) })
		d.faults = slices.Delete(d.faults, 0, 1)
	}
	d.faults = append(d.faults, f)
}

// Clear forgets every fault of the device with this UUID or bus id: an operator has
// seen to it. What the next snapshot itself says still counts.
func (t *Tracker) Clear(id string, _ time.Time) {
	for _, d := range t.known {
		if d.is(Device{UUID: id}) || d.is(Device{BusID: id}) {
			d.symptoms = symptoms{}
		}
	}
}

// Observe returns s with the Health of its devices completed, and takes in what it
// says. Devices that are gone stay listed as Lost for 10 minutes. A failed or lost
// device has unknown free memory. Reason becomes Failed where no device is usable
// any more. A snapshot without devices that does not mean "no device", and a stale
// one, teach nothing.
func (t *Tracker) Observe(s Snapshot, now time.Time) Snapshot {
	s = s.clone()
	counts := !s.Stale && (len(s.Devices) > 0 || s.Reason == NoDevice)
	if counts {
		t.miss(s, now)
	}
	for i := range s.Devices {
		dev := &s.Devices[i]
		d := t.of(*dev)
		if d == nil {
			continue // more devices than a snapshot may have
		}
		if !s.Stale {
			d.see(*dev, now)
		}
		dev.Health = d.health(dev.Health, now)
		dev.hideFree()
	}
	if counts {
		s.Devices = append(s.Devices, t.away(s, now)...)
		slices.SortStableFunc(s.Devices, func(a, b Device) int { return a.Index - b.Index })
	}
	t.known = slices.DeleteFunc(t.known, func(d *tracked) bool { return d.forgettable(now) })
	if s.Reason == OK && !s.anyUsable() {
		s.Reason, s.Detail = Failed, "no device is usable"
	}
	return s
}

// miss notes which known devices s does not list. Only a complete snapshot proves
// that a device is really away; one that is OK and has a Detail lacks what that says.
func (t *Tracker) miss(s Snapshot, now time.Time) {
	complete := s.Reason == OK && s.Detail == "" || s.Reason == NoDevice
	for _, d := range t.known {
		if slices.ContainsFunc(s.Devices, d.is) {
			continue
		}
		if d.gone.IsZero() {
			d.gone = now
		}
		d.vanished = d.vanished || complete
	}
}

// see takes in what a provider says of the device.
func (d *tracked) see(dev Device, now time.Time) {
	before := d.last.UUID
	d.last, d.seen, d.gone = dev.clone(), true, time.Time{}
	d.last.UUID = cmp.Or(dev.UUID, before)
	if dev.Health.State == Lost {
		d.vanished = true
		return
	}
	action := dev.Health.Recovery
	hidden := slices.ContainsFunc(dev.Notes, func(n Note) bool { return n.Field == "recovery" && n.Why != "not_supported" })
	// Without an amount of memory only the bus lists it: no driver says that it is well.
	if dev.Memory.Total != nil {
		if d.vanished || d.named && action == "" && !hidden && dev.Health.State != Broken {
			d.symptoms = symptoms{}
		}
		d.vanished = false
	}
	if action != "" {
		d.named = true
		d.record(fault{0, action, now})
	}
	d.feel(dev.TempC, now)
	if n := dev.ECCUncorrected; n != nil {
		if d.ecc != nil && *n > *d.ecc {
			d.eccUntil = now.Add(degradedFor)
		}
		d.ecc = new(*n)
	}
}

// feel takes in a temperature; an unknown one is not a cool one.
func (d *tracked) feel(temp *int, now time.Time) {
	switch {
	case temp != nil && *temp >= criticalC:
		d.critical, d.cool = true, time.Time{}
	case temp == nil || *temp >= hotC:
		d.cool = time.Time{}
	case d.cool.IsZero():
		d.cool = now
	case now.Sub(d.cool) >= coolFor:
		d.critical = false
	}
}

// health combines what a provider says with what is remembered.
func (d *tracked) health(h Health, now time.Time) Health {
	d.faults = slices.DeleteFunc(d.faults, func(f fault) bool { return f.action == RestartApp && now.Sub(f.at) >= degradedFor })
	add := func(s State, cause string) {
		if badness(s) > badness(h.State) {
			h.State = s
		}
		if cause != "" && len(h.Causes) < maxCauses && !slices.Contains(h.Causes, cause) {
			h.Causes = append(h.Causes, cause)
		}
	}
	named := h.Recovery // what a snapshot names wins over the table
	for _, f := range d.faults {
		s, cause := Broken, ""
		if f.action == RestartApp {
			s = Degraded
		}
		if f.xid != 0 {
			cause = "xid " + strconv.Itoa(f.xid)
		}
		add(s, cause)
		if named == "" && severity(f.action) > severity(h.Recovery) {
			h.Recovery = f.action
		}
	}
	switch {
	case d.critical:
		add(Broken, "temp_critical")
	case d.last.TempC != nil && *d.last.TempC >= hotC:
		add(Degraded, "temp_high")
	}
	if now.Before(d.eccUntil) {
		add(Degraded, "ecc")
	}
	if h.State != d.state {
		d.state, d.since = h.State, now
	}
	h.Since = d.since
	return h
}

// away lists the devices that are gone, as Lost. An index that another device has
// taken over is replaced by one after the highest.
func (t *Tracker) away(s Snapshot, now time.Time) (lost []Device) {
	taken, next := map[int]bool{}, 0
	for _, d := range s.Devices {
		taken[d.Index], next = true, max(next, d.Index+1)
	}
	for _, d := range t.known {
		if !d.seen || d.gone.IsZero() || now.Sub(d.gone) >= listedFor || len(s.Devices)+len(lost) >= maxDevices {
			continue
		}
		dev := d.last.clone()
		dev.Health = d.health(Health{State: Lost}, now)
		dev.hideFree()
		if taken[dev.Index] {
			dev.Index = next
		}
		taken[dev.Index], next = true, max(next, dev.Index+1)
		lost = append(lost, dev)
	}
	return lost
}

// forgettable reports whether nothing is left to remember.
func (d *tracked) forgettable(now time.Time) bool {
	if !d.seen {
		return now.Sub(d.heard) >= listedFor
	}
	return !d.gone.IsZero() && now.Sub(d.gone) >= listedFor && (d.vanished || len(d.faults) == 0)
}

// of returns what is known of a device, from now on if nothing was; nil: it has no
// name, or there are too many.
func (t *Tracker) of(dev Device) *tracked {
	if at := slices.IndexFunc(t.known, func(d *tracked) bool { return d.is(dev) }); at >= 0 {
		return t.known[at]
	}
	if dev.UUID == "" && dev.BusID == "" || len(t.known) >= maxDevices {
		return nil
	}
	d := &tracked{last: Device{UUID: dev.UUID, BusID: dev.BusID}}
	t.known = append(t.known, d)
	return d
}

// is compares by UUID, and by bus id where one of the two has no UUID: another card
// in the same slot is another device. A slice stands for its device.
func (d *tracked) is(o Device) bool {
	if o.UUID != "" && d.last.UUID != "" {
		return strings.EqualFold(o.UUID, d.last.UUID) ||
			slices.ContainsFunc(d.last.MIG, func(m MIGDevice) bool { return strings.EqualFold(m.UUID, o.UUID) })
	}
	return o.BusID != "" && o.BusID == d.last.BusID
}

func badness(s State) int {
	return slices.Index([]State{Healthy, Degraded, Broken, Lost}, s)
}

func severity(a Action) int {
	return slices.Index([]Action{"", RestartApp, DrainReset, Reset, Reboot, Contact}, a)
}
