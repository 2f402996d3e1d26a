package gpuinfo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Limits of what is read from the kernel.
const (
	maxFile      = 4 << 10
	maxFunctions = 256
	maxEntries   = 1 << 14 // of a folder that are looked at
)

const (
	sysfsName = "sysfs"
	pciDir    = "sys/bus/pci/devices"
	drmDir    = "sys/class/drm"
)

// Vendors by their PCI number.
const (
	pciAMD    = 0x1002
	pciNVIDIA = 0x10de
	pciIntel  = 0x8086
)

// sysfs reads display devices from the files of the kernel. A file of a driver that
// hangs blocks its reader for ever, so the reading runs in a goroutine of its own, at
// most one at a time.
type sysfs struct {
	root fs.FS
	apus []uint16

	mu     sync.Mutex
	flight *busFlight // the reading that is under way
}

type busFlight struct {
	since time.Time
	done  chan struct{}
	scan  busScan // valid once done is closed
}

// busScan is what the bus showed: devices in the order of their bus ids, with no
// Index yet, and the reason if none of them is usable.
type busScan struct {
	devices []Device
	reason  Reason
	detail  string
}

// scan reads the bus, or joins a reading that is under way, for at most limit. A
// reading that has lasted longer than that is not waited for.
func (p *sysfs) scan(ctx context.Context, limit time.Duration) busScan {
	p.mu.Lock()
	f := p.flight
	if f == nil {
		f = &busFlight{since: time.Now(), done: make(chan struct{})}
		p.flight = f
		go func() {
			f.scan = scanBus(p.root, p.apus)
			p.mu.Lock()
			p.flight = nil
			p.mu.Unlock()
			close(f.done)
		}()
	}
	p.mu.Unlock()
	timer := time.NewTimer(limit - time.Since(f.since))
	defer timer.Stop()
	select {
	case <-f.done:
	case <-timer.C:
	case <-ctx.Done():
	}
	select {
	case <-f.done: // also where both were ready
		own := f.scan // other callers have the same
		own.devices = Snapshot{Devices: own.devices}.clone().Devices
		return own
	default:
	}
	return busScan{reason: DriverHung, detail: fmt.Sprintf("a read from the kernel has been hanging for %d ms", time.Since(f.since).Milliseconds())}
}

// function is one PCI function.
type function struct {
	dir, bus       string // its folder; its id in normal form
	vendor, device uint16
	class          uint16 // class and subclass
	card           string // folder of its DRM card; "" if no driver made one
}

func scanBus(root fs.FS, apus []uint16) busScan {
	functions, err := displayFunctions(root)
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			return busScan{reason: Permission, detail: "the devices on the bus may not be read"}
		}
		return busScan{reason: NoDevice, detail: "the kernel shows no bus"}
	}
	out := busScan{reason: NoDevice, detail: "no display device is on the bus"}
	for _, f := range functions {
		d := Device{
			BusID: f.bus, PCIID: uint32(f.vendor)<<16 | uint32(f.device), Vendor: strings.ToLower(vendorTitle(f.vendor)),
			Health: Health{State: Healthy}, Memory: Memory{Source: sysfsName},
		}
		d.Name = fmt.Sprintf("%s device %04x", vendorTitle(f.vendor), f.device)
		switch f.vendor {
		case pciAMD:
			readAMD(root, f, isAPU(f.device, apus), &d)
		case pciIntel:
			readIntel(root, f, &d)
		default:
			d.note(vramTotal, "not_available")
		}
		switch {
		case d.Usable():
			out.reason, out.detail = OK, ""
		case f.vendor == pciAMD && out.reason == NoDevice:
			out.reason, out.detail = NoDriver, "no driver tells the memory of an AMD device"
		case out.reason == NoDevice:
			out.detail = "no device has memory of its own that a driver tells"
		}
		out.devices = append(out.devices, d)
	}
	return out
}

// vendorTitle is the name of a vendor whose devices are listed, else "".
func vendorTitle(id uint16) string {
	return map[uint16]string{pciAMD: "AMD", pciIntel: "Intel", pciNVIDIA: "NVIDIA"}[id]
}

// displayFunctions lists the graphics devices of the three vendors, by bus id. Other
// vendors' are the consoles of servers and of virtual machines.
func displayFunctions(root fs.FS) ([]function, error) {
	entries, err := fs.ReadDir(root, pciDir)
	if err != nil {
		return nil, err
	}
	var cards map[string]string
	var out []function
	for _, e := range entries[:min(len(entries), maxEntries)] {
		bus, ok := normalBusID(e.Name())
		if !ok {
			continue
		}
		dir := path.Join(pciDir, e.Name())
		class, _ := readNumber(root, dir+"/class")
		vendor, _ := readNumber(root, dir+"/vendor")
		f := function{dir: dir, bus: bus, vendor: uint16(vendor), class: uint16(class >> 8)}
		if !f.mayCompute() {
			continue
		}
		device, _ := readNumber(root, dir+"/device")
		f.device = uint16(device)
		if cards == nil {
			cards = drmCards(root)
		}
		f.card = cards[bus]
		if f.class == classAccelerator && f.card == "" {
			continue
		}
		out = append(out, f)
	}
	slices.SortFunc(out, func(a, b function) int { return strings.Compare(a.bus, b.bus) })
	return out[:min(len(out), maxFunctions)], nil
}

// PCI classes with their subclass.
const (
	classVGA         = 0x0300
	class3D          = 0x0302
	classDisplay     = 0x0380
	classAccelerator = 0x1200 // AMD's cards without a display; needs a DRM card to count
)

func (f function) mayCompute() bool {
	switch f.class {
	case classVGA, class3D, classDisplay:
		return vendorTitle(f.vendor) != ""
	}
	return f.class == classAccelerator && f.vendor == pciAMD
}

// drmCards maps bus ids to the folders of their DRM cards.
func drmCards(root fs.FS) map[string]string {
	out := map[string]string{}
	cards, _ := fs.Glob(root, drmDir+"/card[0-9]*") // the only error is that of the pattern
	for _, card := range cards[:min(len(cards), maxEntries)] {
		if strings.Contains(card, "-") {
			continue // a connector such as card0-DP-1
		}
		if bus, ok := cardBus(root, card); ok && out[bus] == "" {
			out[bus] = card
		}
	}
	return out
}

// cardBus returns the PCI function behind a card.
func cardBus(root fs.FS, card string) (string, bool) {
	if text, err := readText(root, card+"/device/uevent"); err == nil {
		for line := range strings.Lines(text) {
			if slot, ok := strings.CutPrefix(strings.TrimSpace(line), "PCI_SLOT_NAME="); ok {
				return normalBusID(slot)
			}
		}
	}
	target, err := fs.ReadLink(root, card+"/device")
	if err != nil {
		return "", false
	}
	return normalBusID(path.Base(target))
}

// readText reads a file of at most 4 KiB.
func readText(root fs.FS, name string) (string, error) {
	return readLimited(root, name, maxFile)
}

func readLimited(root fs.FS, name string, limit int64) (string, error) {
	f, err := root.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = errors.New("file is too large")
	}
	return string(b), err
}

// readNumber reads a file that holds one number, decimal or with 0x.
func readNumber(root fs.FS, name string) (uint64, bool) {
	n, why := readKnown(root, name)
	return n, why == ""
}

// readKnown is readNumber with the word for a Note where there is no number.
func readKnown(root fs.FS, name string) (n uint64, why string) {
	text, err := readText(root, name)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return 0, "no_permission"
	case err != nil:
		return 0, "not_available"
	}
	text = strings.TrimSpace(text)
	digits, hex := strings.CutPrefix(text, "0x")
	base := 10
	if hex {
		base = 16
	}
	n, err = strconv.ParseUint(digits, base, 64)
	if err != nil {
		return 0, "unparsable"
	}
	return n, ""
}

// readBytes reads an amount of memory and notes why there is none.
func readBytes(root fs.FS, name, field string, d *Device) *uint64 {
	n, why := readKnown(root, name)
	if why == "" && n > maxDeviceBytes {
		why = "unparsable"
	}
	if why != "" {
		d.note(field, why)
		return nil
	}
	return &n
}
