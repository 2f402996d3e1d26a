package orchestrator_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/taskapi"
)

// TestStreamModel: many readers at any id see every event once and in order,
// the log stays within its bound, and nothing follows the end (ORC-501, ORC-502, I2, I13).
func TestStreamModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const limit = 20
		s := orchestrator.NewStream(orchestrator.Streams{Bytes: 1 << 20, Events: limit})
		var all []string // what was appended
		dropped := uint64(0)
		type reader struct {
			*orchestrator.Cursor
			next uint64
		}
		var readers []*reader
		ended := false
		now, cancel := context.WithCancel(context.Background())
		cancel() // appends and reads that would wait give up at once
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				typ := orchestrator.EventToken
				if rapid.IntRange(0, 30).Draw(t, "end") == 0 {
					typ = orchestrator.EventEnd
				}
				data := fmt.Sprint(len(all))
				behind := uint64(len(all)) + 1
				for _, r := range readers {
					behind = min(behind, r.next)
				}
				full := uint64(len(all))-dropped >= limit && behind <= dropped+1 && typ == orchestrator.EventToken
				ok, err := s.Append(now, typ, []byte(data))
				switch {
				case ended && ok:
					t.Fatalf("an event after the end")
				case !ended && full != (err != nil):
					t.Fatalf("Append into a log of %d with a reader at %d = %v", uint64(len(all))-dropped, behind, err)
				case ok:
					if typ != orchestrator.EventEnd && uint64(len(all))-dropped >= limit {
						dropped = max(dropped, uint64(len(all))-limit+1) // at least one place was made
					}
					all = append(all, data)
					ended = typ == orchestrator.EventEnd
				}
			},
			"subscribe": func(t *rapid.T) {
				after := uint64(rapid.IntRange(0, len(all)+2).Draw(t, "after"))
				c, err := s.Subscribe(after)
				switch {
				case after > uint64(len(all)):
					if !errors.Is(err, taskapi.InvalidParams) {
						t.Fatalf("Subscribe beyond the log = %v", err)
					}
				case after < dropped:
					if !errors.Is(err, taskapi.ResumeWindowLost) && err != nil {
						t.Fatalf("Subscribe before the window = %v", err)
					}
					if err == nil {
						c.Close()
					}
				case err != nil:
					if !errors.Is(err, taskapi.ResumeWindowLost) {
						t.Fatalf("Subscribe(%d) of %d = %v", after, len(all), err)
					}
				default:
					readers = append(readers, &reader{c, after + 1})
				}
			},
			"read": func(t *rapid.T) {
				if len(readers) == 0 {
					t.Skip("no reader")
				}
				r := readers[rapid.IntRange(0, len(readers)-1).Draw(t, "reader")]
				e, err := r.Read(now)
				switch {
				case r.next <= uint64(len(all)):
					if err != nil || e.ID != r.next || string(e.Data) != all[r.next-1] {
						t.Fatalf("Read = %d %q %v, want %d %q", e.ID, e.Data, err, r.next, all[r.next-1])
					}
					r.next++
				case ended:
					if !errors.Is(err, io.EOF) {
						t.Fatalf("Read after the end = %v, want EOF", err)
					}
				case !errors.Is(err, context.Canceled):
					t.Fatalf("Read of nothing = %v", err)
				}
			},
			"leave": func(t *rapid.T) {
				if len(readers) == 0 {
					t.Skip("no reader")
				}
				i := rapid.IntRange(0, len(readers)-1).Draw(t, "reader")
				readers[i].Close()
				readers = slices.Delete(readers, i, i+1)
			},
			"": func(t *rapid.T) {
				if s.Last() != uint64(len(all)) {
					t.Fatalf("Last = %d, want %d", s.Last(), len(all))
				}
			},
		})
	})
}

// TestBackPressure: a full log stops the writer until the slowest reader moves,
// and a reader that leaves frees it (ORC-501, ORC-504).
func TestBackPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := orchestrator.NewStream(orchestrator.Streams{Bytes: 1 << 20, Events: 3})
		slow, err := s.Subscribe(0)
		if err != nil {
			t.Fatal(err)
		}
		written := 0
		var wg sync.WaitGroup
		wg.Go(func() {
			for range 10 {
				if ok, err := s.Append(t.Context(), orchestrator.EventToken, []byte("x")); !ok || err != nil {
					t.Errorf("Append = %v, %v", ok, err)
				}
				written++
			}
		})
		synctest.Wait()
		if written != 3 {
			t.Errorf("%d events written with a reader that does not read, want 3", written)
		}
		if e, err := slow.Read(t.Context()); err != nil || e.ID != 1 {
			t.Errorf("Read = %v, %v", e, err)
		}
		synctest.Wait()
		if written != 4 {
			t.Errorf("%d events written after one was read, want 4", written)
		}
		slow.Close()
		wg.Wait()
		if written != 10 {
			t.Errorf("%d events written after the reader left, want 10", written)
		}
	})
}

// TestConcurrentSafeStream: one writer, many readers, nobody misses anything.
func TestConcurrentSafeStream(t *testing.T) {
	const n = 2000
	s := orchestrator.NewStream(orchestrator.Streams{Bytes: 1 << 20, Events: 64})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for range 8 {
		c, err := s.Subscribe(0)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			defer c.Close()
			for want := uint64(1); ; want++ {
				e, err := c.Read(ctx)
				if errors.Is(err, io.EOF) {
					if want != n+2 {
						t.Errorf("reader saw %d events, want %d", want-1, n+1)
					}
					return
				}
				if err != nil || e.ID != want {
					t.Errorf("Read = %d, %v, want %d", e.ID, err, want)
					return
				}
			}
		})
	}
	for range n {
		if _, err := s.Append(ctx, orchestrator.EventToken, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Append(ctx, orchestrator.EventEnd, nil); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
}

func BenchmarkRelay(b *testing.B) {
	s := orchestrator.NewStream(orchestrator.Streams{Bytes: 8 << 20, Events: 100_256})
	c, err := s.Subscribe(0)
	if err != nil {
		b.Fatal(err)
	}
	data := []byte(`{"t":" word","i":17}`)
	b.ReportAllocs()
	for b.Loop() {
		s.Append(b.Context(), orchestrator.EventToken, data)
		c.Read(b.Context())
	}
}
