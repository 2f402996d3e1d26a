package audit

import (
	"context"
	"errors"
	"time"

	"github.com/llorch/llorch/audit/internal/vfs"
)

// OpenFS is Open over a given file system.
func OpenFS(ctx context.Context, c Config, fsys vfs.FS) (*Log, error) {
	types, faults := newRegistry(c.Types)
	if err := errors.Join(append(faults, c.settle())...); err != nil {
		return nil, err
	}
	return open(ctx, &c, types, fsys)
}

// Fixed are the parts of a line that chance and the clock decide.
type Fixed struct {
	ID   string
	At   time.Time
	Emit uint64
	Seq  uint64
	Prev [32]byte
}

// EncodeLine encodes an event as the log does, with its chance taken out.
func EncodeLine(t TypeInfo, ev Event, service string, x Fixed) ([]byte, error) {
	d, err := declare(t)
	if err != nil {
		return nil, err
	}
	e, err := newEntry(d, &ev, service, x.At)
	if err != nil {
		return nil, err
	}
	e.id, e.emit = x.ID, x.Emit
	line := e.appendLine(nil, place{seq: x.Seq, prev: x.Prev, at: x.At})
	if int64(len(line)) > e.size {
		return nil, errors.New("the bound of the line is too small")
	}
	return line, nil
}

// ParseManifest is what reads manifest.json.
func ParseManifest(b []byte) error {
	_, err := parseManifest(b)
	return err
}

// StartedInfo declares audit.started for the golden vector.
func StartedInfo() TypeInfo { return TypeInfo{Name: typeStarted, Class: Critical, Data: started{}} }

// StartedVector is the payload of the golden vector.
func StartedVector() any {
	return started{
		Host: "h1", Key: "d9e772e0", Origin: "llorch.example/t/audit", PID: 7, PrevClean: true,
		Run: "00000000-0000-7000-8000-000000000001", Version: "v0.1.0",
	}
}
