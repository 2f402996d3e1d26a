package gpuinfotest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/llorch/llorch/gpuinfo"
)

// TestProvider is the conformance suite for implementations of gpuinfo.Provider. open
// returns a new provider, whose machine may be in any state and stays in it; what
// has a method Close() error is closed. The abilities of gpuinfo.ProcessLister and
// gpuinfo.EventSource are tested where the provider has them.
func TestProvider(t *testing.T, open func(t *testing.T) gpuinfo.Provider) {
	get := func(t *testing.T) gpuinfo.Provider {
		p := open(t)
		if c, ok := p.(io.Closer); ok {
			t.Cleanup(func() {
				if err := c.Close(); err != nil {
					t.Errorf("Close = %v", err)
				}
			})
		}
		return p
	}
	t.Run("Snapshot", func(t *testing.T) {
		p := get(t)
		if name := p.Name(); name == "" || len(name) > 64 || !printable(name) {
			t.Errorf("Name = %q", name)
		}
		s, err := p.Snapshot(t.Context())
		if err == nil {
			err = CheckSnapshot(s)
		}
		if err != nil {
			t.Error(err)
		}
	})
	t.Run("Cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if s, err := get(t).Snapshot(ctx); !errors.Is(err, context.Canceled) || !reflect.DeepEqual(s, gpuinfo.Snapshot{}) {
			t.Errorf("Snapshot = %+v, %v; want nothing and the error of the context", s, err)
		}
	})
	t.Run("ConcurrentSafe", func(t *testing.T) { testConcurrent(t, get(t)) })
	t.Run("Events", func(t *testing.T) { testEvents(t, get(t)) })
	t.Run("Processes", func(t *testing.T) { testProcesses(t, get(t)) })
	t.Run("Close", func(t *testing.T) { testClose(t, open(t)) })
}

// testConcurrent changes all that is returned, from several goroutines.
func testConcurrent(t *testing.T, p gpuinfo.Provider) {
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 3 {
				s, err := p.Snapshot(t.Context())
				if err == nil {
					err = CheckSnapshot(s)
				}
				if err != nil {
					t.Errorf("a caller's changes reached the provider, or: %v", err)
					return
				}
				for i := range s.Devices {
					d := &s.Devices[i]
					d.Health.State, d.Index, d.Name = "changed", -1, "changed"
					for _, v := range []*uint64{d.Memory.Total, d.Memory.Free, d.Memory.Used} {
						if v != nil {
							*v = 1 << 63
						}
					}
					for j := range d.MIG {
						d.MIG[j] = gpuinfo.MIGDevice{}
					}
					for j := range d.Notes {
						d.Notes[j] = gpuinfo.Note{}
					}
				}
			}
		})
	}
	wg.Wait()
}

// testEvents: the sequence ends when its context does.
func testEvents(t *testing.T, p gpuinfo.Provider) {
	source, ok := p.(gpuinfo.EventSource)
	if !ok {
		t.Skip("no EventSource")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		var last error
		for e, err := range source.Events(ctx) {
			if err == nil && e.UUID == "" && e.BusID == "" {
				err = errors.New("an event names no device")
			}
			if last != nil {
				err = errors.New("the sequence goes on after an error")
			}
			last = err
		}
		ended <- last
	}()
	select {
	case err := <-ended:
		if err != nil && !errors.Is(err, gpuinfo.ErrUnsupported) && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Events: %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("Events goes on after its context ended")
	}
}

func testProcesses(t *testing.T, p gpuinfo.Provider) {
	lister, ok := p.(gpuinfo.ProcessLister)
	if !ok {
		t.Skip("no ProcessLister")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := lister.Processes(ctx); err == nil {
		t.Error("Processes ignores an ended context")
	}
	ps, err := lister.Processes(t.Context())
	if err != nil {
		if len(ps) > 0 {
			t.Error("Processes gives an answer beside an error")
		}
		return
	}
	for _, q := range ps {
		if q.PID <= 0 || q.UUID == "" || len(q.Name) > 256 {
			t.Errorf("process %+v", q)
		}
	}
}

// testClose: after Close every answer is gpuinfo.ErrClosed, also to a second Close.
func testClose(t *testing.T, p gpuinfo.Provider) {
	c, ok := p.(io.Closer)
	if !ok {
		t.Skip("no Close")
	}
	if err := c.Close(); err != nil {
		t.Errorf("Close = %v", err)
	}
	if err := c.Close(); err != nil {
		t.Errorf("second Close = %v", err)
	}
	if s, err := p.Snapshot(t.Context()); !errors.Is(err, gpuinfo.ErrClosed) || len(s.Devices) > 0 {
		t.Errorf("Snapshot after Close = %+v, %v; want ErrClosed", s, err)
	}
}

// CheckSnapshot says what is wrong with a snapshot of any provider: all of it, or nil.
func CheckSnapshot(s gpuinfo.Snapshot) error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if usable := slices.ContainsFunc(s.Units(), gpuinfo.Unit.Usable); (s.Reason == gpuinfo.OK) != usable {
		fault("Reason is %q, a usable unit exists: %v", s.Reason, usable)
	}
	if s.Provider == "" || s.At.IsZero() || s.Took < 0 {
		fault("Provider %q, At %v, Took %v", s.Provider, s.At, s.Took)
	}
	if strings.Contains(s.Detail, "/") || !printable(s.Detail) {
		fault("Detail is not one of our sentences: %q", s.Detail)
	}
	if s.Reason != gpuinfo.OK && s.Detail == "" {
		fault("no Detail with reason %s", s.Reason)
	}
	for i, d := range s.Devices {
		if err := checkDevice(d); err != nil {
			fault("device %d: %w", i, err)
		}
		for _, o := range s.Devices[:i] {
			if o.Index >= d.Index || o.UUID == d.UUID && d.UUID != "" || o.BusID == d.BusID && d.BusID != "" {
				fault("device %d: not in order of Index, or listed twice", i)
			}
		}
	}
	b, err := json.Marshal(s)
	if err == nil {
		_, err = gpuinfo.LoadSnapshot(bytes.NewReader(b))
	}
	if err != nil {
		fault("the JSON form: %w", err)
	}
	return errors.Join(faults...)
}

func checkDevice(d gpuinfo.Device) error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if d.UUID == "" && d.BusID == "" {
		fault("neither UUID nor BusID")
	}
	if d.BusID != "" && !regexp.MustCompile(`^([0-9a-f]{4}){1,2}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-9a-f]$`).MatchString(d.BusID) {
		fault("BusID %q is not dddd:bb:dd.f", d.BusID)
	}
	for _, text := range []string{d.UUID, d.Name, d.Driver} {
		if !printable(text) {
			fault("unprintable text %q", text)
		}
	}
	noted := func(field string) bool {
		return slices.ContainsFunc(d.Notes, func(n gpuinfo.Note) bool { return n.Field == field && n.Why != "" })
	}
	if d.Memory.Total == nil && !noted("vram_total_bytes") {
		fault("Memory.Total is unknown and no note says why")
	}
	gone := d.Health.State == gpuinfo.Broken || d.Health.State == gpuinfo.Lost
	memories := []gpuinfo.Memory{d.Memory}
	for _, m := range d.MIG {
		memories = append(memories, m.Memory)
		if m.UUID == "" || m.Memory.Kind != gpuinfo.Slice {
			fault("slice %q has memory of kind %q", m.UUID, m.Memory.Kind)
		}
	}
	for _, m := range memories {
		if gone && m.Free != nil {
			fault("free memory is known although the device is %s", d.Health.State)
		}
		if m.Total != nil && m.Free != nil && *m.Free > *m.Total {
			fault("%d of %d bytes free", *m.Free, *m.Total)
		}
	}
	return errors.Join(faults...)
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return !strconv.IsPrint(c) && c != '\ufffd' })
}
