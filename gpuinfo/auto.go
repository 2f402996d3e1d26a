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
	return &auto{smi: newSMI(cfg, check), bus: &sysfs{root: cfg.Root, apus: slices.Clone(cfg.APUs)}, timeout: cfg.Timeout}
}

type auto struct {
	smi     *smi
	bus     *sysfs
	timeout time.Duration

	mu     sync.Mutex
	driver driverView
}

// driverView is what the driver told when it last answered for all of its devices.
type driverView struct {
	next  int               // the first number that it has never given: never falls
	known map[string]Device // by bus id; not changed any more once it is here
}

var (
	_ Provider      = (*auto)(nil)
	_ ProcessLister = (*auto)(nil)
	_ EventSource   = (*auto)(nil)
)

func (p *auto) Name() string { return "auto" }

// Snapshot asks both sources at once, within one time limit.
func (p *auto) Snapshot(ctx context.Context) (Snapshot, error) {
	if err := ctx.Err(); err != nil {
		return Snapshot{}, err
	}
	if !supported {
		return p.smi.Snapshot(ctx)
	}
	start := time.Now()
	scans := make(chan busScan, 1)
	go func() { scans <- p.bus.scan(ctx, p.timeout) }()
	s, lost, err := p.smi.snapshot(ctx)
	scan := <-scans
	if err != nil {
		return Snapshot{}, err
	}
	s = merge(s, scan, lost, p.learn(s.Devices, lost))
	if err := ctx.Err(); err != nil && s.Reason != OK {
		return Snapshot{}, err
	}
	s.Took = time.Since(start).Round(time.Millisecond)
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
		if known {
			d.Index = before.Index
		} else {
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
	quiet := s.Reason == NoTool || s.Reason == NoDevice // nothing is wrong where these are not missed
	switch usable := s.anyUsable(); {
	case usable && (scan.reason == DriverHung || scan.reason == Permission):
		s.Reason, s.Detail = OK, scan.detail // of the devices that could not be read
	case usable && quiet:
		s.Reason, s.Detail = OK, ""
	case usable:
		s.Reason = OK // Detail still says what is wrong with the rest
	case scan.reason != OK && tellsMore(scan.reason, s.Reason):
		s.Reason, s.Detail, s.Provider = scan.reason, scan.detail, sysfsName
	}
	return s
}
