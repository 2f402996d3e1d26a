package poolhttp

import (
	"context"
	"net/http"
	"time"

	"github.com/llorch/llorch/poolcore"
	"github.com/llorch/llorch/poolcore/catalog"
	"github.com/llorch/llorch/poolcore/fetch"
)

// fetchPoll is how often the progress of a fetch is looked at.
const fetchPoll = 200 * time.Millisecond

func (h *handler) models(*call) (answer, error) {
	list := struct {
		Models []catalog.Model `json:"models"` // sorted by id
	}{[]catalog.Model{}}
	if h.node.Catalog != nil {
		list.Models = append(list.Models, h.node.Catalog.List()...)
	}
	return answer{http.StatusOK, list}, nil
}

// known finds the entry of the path.
func (c *call) known() (catalog.Model, error) {
	if c.h.node.Catalog != nil {
		if m, ok := c.h.node.Catalog.Get(c.r.PathValue("id")); ok {
			return m, nil
		}
	}
	return catalog.Model{}, refuse(string(catalog.ModelUnknown))
}

func (h *handler) model(c *call) (answer, error) {
	m, err := c.known()
	return answer{http.StatusOK, m}, err
}

func (h *handler) removeModel(c *call) (answer, error) {
	m, err := c.known()
	if err == nil {
		err = c.due()
	}
	force := c.r.URL.Query().Get("force")
	if err == nil && force != "" && force != "true" && force != "false" {
		err = invalid("force: not true or false")
	}
	if err == nil {
		err = h.node.Catalog.Remove(c.r.Context(), m.ID, force == "true")
	}
	return answer{http.StatusNoContent, nil}, err
}

func (h *handler) setModelState(c *call, q struct {
	State    catalog.State `json:"state"`
	RetireAt time.Time     `json:"retire_at"` // zero: now
},
) (answer, error) {
	m, err := c.known()
	if err != nil {
		return answer{}, err
	}
	if err := h.node.Catalog.SetState(m.ID, q.State, q.RetireAt); err != nil {
		return answer{}, err
	}
	return h.model(c)
}

func (h *handler) verifyModel(c *call, _ none) (answer, error) {
	m, err := c.known()
	if err != nil {
		return answer{}, err
	}
	op, err := h.cfg.Host.Operate("verify", "", func(ctx context.Context, op *poolcore.Operation) (any, error) {
		outcome, err := h.node.Catalog.Verify(ctx, m.ID, func(done, total int64) {
			op.Report("verifying", poolcore.Progress{Done: done, Total: total})
		})
		return struct {
			Verification catalog.Verification `json:"verification"`
		}{outcome}, err
	})
	return c.follow(shortWait, nil, op, err)
}

type fetchRequest struct {
	ModelRef string   `json:"model_ref"`
	SHA256   string   `json:"sha256"` // expected; "": only what the reference states
	Tags     []string `json:"tags"`
	Backends []string `json:"backends"`
}

func (h *handler) fetchModel(c *call, q fetchRequest) (answer, error) {
	if h.node.Catalog == nil {
		return answer{}, poolcore.Unsupported
	}
	op, err := h.cfg.Host.Operate("fetch", "", func(ctx context.Context, op *poolcore.Operation) (any, error) {
		f, err := h.node.Catalog.Ensure(ctx, q.ModelRef, catalog.EnsureOptions{SHA256: q.SHA256, Tags: q.Tags, Backends: q.Backends})
		if err != nil {
			return nil, err
		}
		return h.fetch(ctx, f, op)
	})
	return c.follow(shortWait, nil, op, err)
}

// fetch follows a fetch to its end. A cancelled one keeps what it has.
func (h *handler) fetch(ctx context.Context, f *catalog.Fetch, op *poolcore.Operation) (any, error) {
	first, _ := h.fetches.LoadOrStore(f, op)
	defer h.fetches.CompareAndDelete(f, op)
	report := func(p fetch.Progress) {
		if first != op {
			p.Received = 0 // the same bytes count once
		}
		op.Report(p.Phase, poolcore.Progress{Done: p.BytesDone, Total: p.BytesTotal, Received: p.Received, Human: p.Human})
	}
	stop := context.AfterFunc(ctx, func() { f.Cancel(false) })
	defer stop()
	for {
		poll, cancel := context.WithTimeout(context.Background(), fetchPoll)
		m, err := f.Wait(poll)
		late := poll.Err() != nil && err == poll.Err()
		cancel()
		report(f.Progress())
		if !late {
			return m, err
		}
	}
}
