package gpuinfo

import (
	"cmp"
	"context"
	"iter"
	"slices"
	"sync"
	"time"
)

// Auto returns the provider for the machine it runs on: nvidia-smi for NVIDIA's
// devices, the files of the kernel for AMD's and Intel's. It also implements
// [ProcessLister]; it hears of no events.
//
// Devices that the kernel alone shows are numbered after those of the driver, in the
// order of their bus ids, and keep their numbers while the driver does not answer.
func Auto(cfg AutoConfig) Provider {
	if cfg.Disable {
		return Static(Snapshot{Reason: Disabled, Detail: "GPU discovery is switched off"})
	}
	return newAuto(cfg, trustedFile)
}

func newAuto(cfg AutoConfig, check func(string) *trustError) *auto {
	cfg = cfg.complete()
	return &auto{
		smi: smi{cfg: cfg, check: check, runner: newRunner()},
		bus: sysfs{root: cfg.Root, apus: slices.Clone(cfg.APUs)},
	}
}

type auto struct {
	smi smi
	bus sysfs

	mu     sync.Mutex
	driver driverView
}

// driverView is what the driver told when it last answered for all of its devices.
type driverView struct {
	next  int               // the first number that it has never given: never falls
	known map[string]Device // by bus id; not changed any more once it is here
}

var (
	_ ProcessLister = (*auto)(nil)
	_ EventSource   = (*auto)(nil)
)

func (p *auto) Name() string { return "auto" }

// Snapshot asks both sources at once, within one time limit.
func (p *auto) Snapshot(ctx context.Context) (Snapshot, error) {
	if err := ctx.Err(); err != nil {
		return Snapshot{}, err
	}
	start := time.Now()
	s := Snapshot{Reason: NoDevice, Detail: "GPU discovery works on Linux only"}
	if supported {
		scans := make(chan busScan, 1)
		go func() { scans <- p.bus.scan(ctx, p.smi.cfg.Timeout) }()
		tool, lost := p.smi.take(ctx)
		s = merge(tool, <-scans, lost, p.learn(tool.Devices, lost))
	}
	if err := ctx.Err(); err != nil {
		return Snapshot{}, err
	}
	s.Provider = cmp.Or(s.Provider, smiName)
	s.At, s.Took = start.UTC().Round(0), time.Since(start).Round(time.Millisecond)
	return s, nil
}

// learn remembers what the driver told and returns what is known by now.
func (p *auto) learn(devices []Device, lost bool) driverView {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(devices) > 0 && !lost {
		p.driver.known = map[string]Device{}
		for _, d := range devices {
			p.driver.next = max(p.driver.next, d.Index+1)
			p.driver.known[d.BusID] = d.clone()
		}
	}
	return p.driver
}

// Processes asks nvidia-smi: the kernel does not tell whose the memory of other
// devices is.
func (p *auto) Processes(ctx context.Context) ([]Process, error) { return p.smi.Processes(ctx) }

// Events yields ErrUnsupported: neither source reports faults as they happen.
func (p *auto) Events(context.Context) iter.Seq2[Event, error] { return noEvents }

func noEvents(yield func(Event, error) bool) { yield(Event{}, ErrUnsupported) }

// merge joins what the driver's tool said with what the bus showed. NVIDIA's devices
// that only the bus shows are listed if no driver answers, or as lost if the tool
// said that one is; otherwise they were hidden from this container.
func merge(tool Snapshot, scan busScan, lost bool, driver driverView) Snapshot {
	s := tool
	reported := map[string]bool{}
	for _, d := range s.Devices {
		reported[d.BusID] = true
		driver.next = max(driver.next, d.Index+1)
	}
	noDriver := s.Reason == NoTool || s.Reason == NoDriver
	for _, d := range scan.devices {
		before, known := driver.known[d.BusID]
		isLost := lost && (known || len(driver.known) == 0)
		if reported[d.BusID] || d.Vendor == "nvidia" && !noDriver && !isLost || len(s.Devices) == maxDevices || driver.next > maxIndex {
			continue
		}
		if d.Index = before.Index; !known {
			d.Index = driver.next
			driver.next++
		}
		switch {
		case d.Vendor != "nvidia":
		case noDriver:
			tool = Snapshot{Reason: DriverMissing, Detail: "an NVIDIA device is on the bus and no driver answers"}
		default:
			d.UUID, d.Name, d.Driver = before.UUID, cmp.Or(before.Name, d.Name), before.Driver
			d.Health.State, d.Notes = Lost, []Note{{Field: vramTotal, Why: "lost"}}
		}
		s.Devices = append(s.Devices, d)
		s.Provider = smiName + "+" + sysfsName
		if len(reported) == 0 {
			s.Provider = sysfsName
		}
	}
	slices.SortFunc(s.Devices, func(a, b Device) int { return a.Index - b.Index })
	s.Reason, s.Detail = tool.Reason, tool.Detail
	switch usable := s.anyUsable(); {
	case usable && (scan.reason == DriverHung || scan.reason == Permission):
		s.Reason, s.Detail = OK, scan.detail // of the devices that could not be read
	case usable && (s.Reason == NoTool || s.Reason == NoDevice):
		s.Reason, s.Detail = OK, "" // nothing is wrong where these are not missed
	case usable:
		s.Reason = OK // Detail still says what is wrong with the rest
	case scan.reason != OK && tellsMore(scan.reason, s.Reason):
		s.Reason, s.Detail, s.Provider = scan.reason, scan.detail, sysfsName
	}
	return s
}
