package decisionlog

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/llorch/llorch/orchestrator/internal/sched"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/queue"
)

// Explanation finds the newest recorded decision about a task (ORC-310); false if
// no segment has one. It reads the segments, newest first: it is for people. Safe
// for concurrent use.
func (w *Writer) Explanation(ctx context.Context, id queue.ID) (placement.Explanation, bool, error) {
	if w == nil {
		return placement.Explanation{}, false, nil
	}
	root, err := os.OpenRoot(w.cfg.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return placement.Explanation{}, false, nil
	}
	if err != nil {
		return placement.Explanation{}, false, err
	}
	defer root.Close()
	known, err := list(root)
	if err != nil {
		return placement.Explanation{}, false, err
	}
	slices.SortStableFunc(known, func(a, b segment) int { return b.changed.Compare(a.changed) })
	for _, k := range known {
		f, err := root.Open(k.String())
		if err != nil {
			continue // removed meanwhile
		}
		e, ok, err := find(ctx, f, id)
		if f.Close(); err != nil || ok {
			return e, ok, err
		}
	}
	return placement.Explanation{}, false, nil
}

// find returns the last assignment of a task in a segment.
func find(ctx context.Context, r io.Reader, id queue.ID) (last placement.Explanation, ok bool, err error) {
	in := bufio.NewReaderSize(r, 256<<10)
	mark := []byte(`{"assign":{"ID":"` + hex.EncodeToString(id[:]) + `"`)
	for buf := []byte(nil); ; {
		if err := context.Cause(ctx); err != nil {
			return last, ok, err
		}
		if buf, err = readLine(in, buf[:0]); errors.Is(err, io.EOF) {
			return last, ok, nil
		}
		if err != nil {
			return last, ok, err
		}
		if !bytes.Contains(buf, mark) {
			continue
		}
		var l struct{ Fx []json.RawMessage }
		if json.Unmarshal(buf, &l) != nil {
			continue // damaged: Replay says so
		}
		for _, raw := range l.Fx {
			if e, err := sched.DecodeEffect(raw); err == nil {
				if a, is := e.(sched.Assign); is && a.ID == id {
					last, ok = a.Why, true
				}
			}
		}
	}
}
