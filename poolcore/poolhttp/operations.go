package poolhttp

import (
	"context"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/llorch/llorch/deadline"
	"github.com/llorch/llorch/poolcore"
	"github.com/llorch/llorch/poolcore/handoff"
	"github.com/llorch/llorch/poolregistry"
	"github.com/llorch/llorch/poolregistry/nodeapi"
)

const (
	maxWait    = 120 * time.Second
	shortWait  = 50 * time.Millisecond // long enough for a refusal
	wayHome    = 50 * time.Millisecond // of an answer, before the caller's deadline
	writeGrace = 10 * time.Second      // for the answer itself
)

// follow waits for an operation as long as the caller likes, and no longer than
// its deadline leaves. result is the body of a success; nil: the operation is, with
// 202.
func (c *call) follow(wait time.Duration, result func(*poolcore.Operation) any, op *poolcore.Operation, err error) (answer, error) {
	if err != nil {
		return answer{}, err // it was not begun
	}
	if asked, ok := preferredWait(c.r.Header); ok {
		wait = asked
	}
	if d, ok := deadline.From(c.r.Context()); ok {
		wait = min(wait, d.Remaining()-wayHome)
	}
	wait = max(wait, 0)
	_ = http.NewResponseController(c.w).SetWriteDeadline(time.Now().Add(wait + writeGrace)) // else the server's own holds
	ctx, cancel := context.WithTimeout(c.r.Context(), wait)
	defer cancel()
	_ = op.Wait(ctx) // its state says more
	ended := c.h.ended(op)
	switch {
	case ended && op.Err() != nil:
		return answer{}, op.Err()
	case ended && result != nil:
		return answer{http.StatusOK, result(op)}, nil
	}
	c.w.Header().Set("Location", strings.Repeat("../", strings.Count(c.r.URL.EscapedPath(), "/")-1)+"operations/"+op.ID)
	return answer{http.StatusAccepted, c.h.show(op)}, nil
}

// preferredWait reads "Prefer: wait=N" (RFC 7240). What can not be read is no
// preference.
func preferredWait(header http.Header) (time.Duration, bool) {
	for _, line := range header.Values("Prefer") {
		for preference := range strings.SplitSeq(line, ",") {
			preference, _, _ = strings.Cut(preference, ";")
			name, value, _ := strings.Cut(preference, "=")
			n, err := strconv.ParseUint(strings.Trim(value, " \t\""), 10, 16)
			if err == nil && strings.EqualFold(strings.TrimSpace(name), "wait") {
				return min(time.Duration(n)*time.Second, maxWait), true
			}
		}
	}
	return 0, false
}

func (h *handler) ended(op *poolcore.Operation) bool {
	state := op.State()
	return state != "queued" && state != "running"
}

// show is the operation on the wire.
func (h *handler) show(op *poolcore.Operation) nodeapi.Operation {
	out := nodeapi.Operation{ID: op.ID, Kind: op.Kind, State: op.State(), Phase: op.Phase(), PoolID: op.Pool}
	if p := op.Progress(); p != (poolcore.Progress{}) {
		out.Progress = &nodeapi.Progress{BytesDone: p.Done, BytesTotal: p.Total, Human: p.Human}
		if p.Total > 0 {
			out.Progress.Pct = 100 * float64(p.Done) / float64(p.Total)
		}
	}
	if err := op.Err(); err != nil {
		d, _ := explain(err)
		out.Error = &d
	}
	if out.State == "done" {
		if out.Result = op.Result(); op.Kind == "preload" {
			out.Result = h.preloaded(op)
		}
	}
	return out
}

func (c *call) found() (*poolcore.Operation, error) {
	if op, ok := c.h.cfg.Host.Operation(c.r.PathValue("id")); ok {
		return op, nil
	}
	return nil, refuse(codeNoOperation)
}

func (h *handler) operation(c *call) (answer, error) {
	op, err := c.found()
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusOK, h.show(op)}, nil
}

func (h *handler) cancel(c *call) (answer, error) {
	op, err := c.found()
	if err != nil {
		return answer{}, err
	}
	if err := c.due(); err != nil {
		return answer{}, err
	}
	if h.ended(op) {
		return answer{http.StatusOK, h.show(op)}, nil
	}
	op.Cancel()
	return answer{http.StatusAccepted, h.show(op)}, nil
}

// handoffPath is where the file of a worker's place lies; empty: nowhere.
func (h *handler) handoffPath(pool poolregistry.PoolID, replica string) string {
	if h.node.HandoffDir == "" {
		return ""
	}
	return filepath.Join(h.node.HandoffDir, handoff.Name(pool, replica))
}
