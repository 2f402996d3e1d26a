package fetch

import (
	"context"
	"net"
	"os"
	"time"
)

// Names that the tests need to see.
type (
	Retries = retries
	Meta    = meta
)

const (
	PartSuffix = partSuffix
	MetaSuffix = metaSuffix
)

func (r *Retries) Received(n int64) { r.received(n) }

func (r *Retries) Failed(after time.Duration, jitter float64) (time.Duration, bool) {
	return r.failed(after, jitter)
}

func RestartPause(n int, jitter float64) time.Duration { return restartPause(n, jitter) }

// Through returns e with another way to connect; next is the guarded one.
func (e Egress) Through(f func(next func(ctx context.Context, network, address string) (net.Conn, error)) func(ctx context.Context, network, address string) (net.Conn, error)) Egress {
	e.reroute = f
	return e
}

// Waiting returns s with another way to wait between tries.
func (s Sources) Waiting(f func(context.Context, time.Duration) error) Sources {
	s.wait = f
	return s
}

func PartName(p Plan, f File) string { return partName(p, f) }

// WritePart leaves what a killed download leaves.
func WritePart(into *os.Root, p Plan, f File, content []byte, tag string, synced int64) error {
	if err := into.WriteFile(partName(p, f)+partSuffix, content, 0o600); err != nil {
		return err
	}
	part := part{into: into, name: partName(p, f), meta: metaOf(f)}
	part.meta.Tag, part.meta.Synced = tag, synced
	return part.writeMeta()
}

func ParseMeta(b []byte) (Meta, error)                    { return parseMeta(b) }
func ParseContentRange(s string) (int64, int64, bool)     { return parseContentRange(s) }
func NextPage(links []string) string                      { return nextPage(links) }
func StrongTag(s string) string                           { return strongTag(s) }
func ParseRetryAfter(s string, t time.Time) time.Duration { return parseRetryAfter(s, t) }
func HasVariant(name, variant string) bool                { return hasVariant(name, variant) }
func (p Progress) Finished() Progress                     { return p.finished() }
