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
	wait, cancel := context.WithDeadline(ctx, f.since.Add(limit))
	defer cancel()
	select {
	case <-f.done:
	case <-wait.Done():
	}
	if !closedIn(f.done, 0) { // not both were ready
		return busScan{reason: DriverHung, detail: fmt.Sprintf("a read from the kernel has been hanging for %d ms", time.Since(f.since).Milliseconds())}
	}
	own := f.scan // other callers have the same
	own.devices = Snapshot{Devices: own.devices}.clone().Devices
	return own
}

// function is one PCI function.
type function struct {
	dir, bus       string // its folder; its id in normal form
	vendor, device uint16
	card           string // folder of its DRM card; "" if no driver made one
}

func scanBus(root fs.FS, apus []uint16) busScan {
	functions, err := displayFunctions(root)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return busScan{reason: Permission, detail: "the devices on the bus may not be read"}
	case err != nil:
		return busScan{reason: NoDevice, detail: "the kernel shows no bus"}
	}
	out := busScan{reason: NoDevice, detail: "no display device is on the bus"}
	for _, f := range functions {
		title := vendorTitle(f.vendor)
		d := Device{
			BusID: f.bus, PCIID: uint32(f.vendor)<<16 | uint32(f.device), Vendor: strings.ToLower(title), Name: fmt.Sprintf("%s device %04x", title, f.device),
			Health: Health{State: Healthy}, Memory: Memory{Source: sysfsName},
		}
		switch {
		case f.card == "" || f.vendor == pciNVIDIA:
			d.note(vramTotal, "not_available")
		case f.vendor == pciAMD:
			readAMD(root, f, slices.Contains(apuIDs(), f.device) || slices.Contains(apus, f.device), &d)
		default:
			readIntel(root, f, &d)
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
		dir := path.Join(pciDir, e.Name())
		class, vendor, device := numberIn(root, dir+"/class")>>8, numberIn(root, dir+"/vendor"), numberIn(root, dir+"/device")
		compute := class == classVGA || class == class3D || class == classDisplay
		accelerator := class == classAccelerator && vendor == pciAMD
		if !ok || vendorTitle(uint16(vendor)) == "" || !compute && !accelerator {
			continue
		}
		if cards == nil {
			cards = drmCards(root)
		}
		if accelerator && cards[bus] == "" {
			continue
		}
		out = append(out, function{dir: dir, bus: bus, vendor: uint16(vendor), device: uint16(device), card: cards[bus]})
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
	for line := range strings.Lines(readText(root, card+"/device/uevent")) {
		if slot, ok := strings.CutPrefix(strings.TrimSpace(line), "PCI_SLOT_NAME="); ok {
			return normalBusID(slot)
		}
	}
	target, _ := fs.ReadLink(root, card+"/device")
	return normalBusID(path.Base(target))
}

// readText reads a file of at most 4 KiB, without blanks around it; "" if it cannot
// be read.
func readText(root fs.FS, name string) string {
	text, _ := readLimited(root, name, maxFile)
	return strings.TrimSpace(text)
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
	if err != nil {
		return "", err
	}
	return string(b), nil
}

// numberIn is readNumber for files that say 0 or are not there alike.
func numberIn(root fs.FS, name string) uint64 {
	n, _ := readNumber(root, name)
	return n
}

// readNumber reads a file that holds one number, decimal or with 0x. Where there is
// none, why is the word for a Note.
func readNumber(root fs.FS, name string) (n uint64, why string) {
	text, err := readLimited(root, name, maxFile)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return 0, "no_permission"
	case err != nil:
		return 0, "not_available"
	}
	digits, base := strings.TrimSpace(text), 10
	if hex, ok := strings.CutPrefix(digits, "0x"); ok {
		digits, base = hex, 16
	}
	if n, err = strconv.ParseUint(digits, base, 64); err != nil {
		return 0, "unparsable"
	}
	return n, ""
}

// readBytes reads an amount of memory and notes why there is none.
func readBytes(root fs.FS, name, field string, d *Device) *uint64 {
	n, why := readNumber(root, name)
	if why == "" && n > maxDeviceBytes {
		why = "unparsable"
	}
	if why != "" {
		d.note(field, why)
		return nil
	}
	return &n
}
