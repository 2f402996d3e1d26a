package catalog_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"testing"
	"testing/iotest"
	"time"

	"github.com/llorch/llorch/poolcore/catalog"
)

// BenchmarkVerify compares the verification of a file with crypto/sha256 over the
// same bytes in memory, taking turns: ratio is the share of that speed.
func BenchmarkVerify(b *testing.B) {
	const size = 256 << 20
	data := safetensors(size)
	from := write(b, "m.safetensors", data)
	c := open(b, catalog.Config{Dir: quickDir(b)})
	m, err := c.Put(b.Context(), catalog.Put{Ref: "hf:acme/big", From: from, Link: true})
	must(b, err)
	b.SetBytes(size)
	memory, disk := time.Duration(1<<62), time.Duration(1<<62)
	for b.Loop() {
		start := time.Now()
		sha256.Sum256(data)
		memory = min(memory, time.Since(start))
		start = time.Now()
		must(b, second(c.Verify(b.Context(), m.ID, nil)))
		disk = min(disk, time.Since(start))
	}
	b.ReportMetric(memory.Seconds()/disk.Seconds(), "ratio")
}

// PCO-59: a file is asked for in pieces of at least 4 MiB, and comes out as it is.
func TestHashReader(t *testing.T) {
	data := tiny(1)
	for _, size := range []int64{0, 1, 4<<20 - 1, 4 << 20, 9 << 20} {
		r := &zeros{left: size}
		got, n, err := catalog.HashReader(t.Context(), r, &catalog.Meter{})
		if err != nil || n != size || got != sum(make([]byte, size)) || r.first < 4<<20 || r.calls > size>>22+2 {
			t.Errorf("HashReader(%d bytes) = %s, %d, %v; %d reads of %d", size, got, n, err, r.calls, r.first)
		}
	}
	broken := io.MultiReader(bytes.NewReader(data), iotest.ErrReader(io.ErrClosedPipe))
	if _, _, err := catalog.HashReader(t.Context(), broken, &catalog.Meter{}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("HashReader(broken disk) = %v", err)
	}
}

// zeros notes how often it was asked, and for how much at first.
type zeros struct{ left, calls, first int64 }

func (z *zeros) Read(p []byte) (int, error) {
	if z.calls++; z.calls == 1 {
		z.first = int64(len(p))
	}
	if z.left == 0 {
		return 0, io.EOF
	}
	n := min(int64(len(p)), z.left)
	clear(p[:n])
	z.left -= n
	return int(n), nil
}
