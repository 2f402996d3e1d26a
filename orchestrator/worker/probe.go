package worker

import (
	"cmp"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"time"
)

// Bounds of a probe.
const (
	probeTimeout = 5 * time.Second
	probeBytes   = 1 << 20
	maxModels    = 4096
	maxSlots     = 1 << 16 // slots that are believed
	maxCtx       = 1 << 30 // tokens
)

// Probe implements [Adapter]. An empty Target.Flavour is detected from the model
// list. An engine that is loading its model is a Status, not a failure. It takes
// at most 5 s.
func (d *Dialer) Probe(ctx context.Context, t Target) (Status, error) {
	if ctx.Err() != nil {
		return Status{}, context.Cause(ctx)
	}
	tr, base, err := d.transport(t)
	if err != nil {
		return Status{}, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, probeTimeout, &Failure{Class: Timeout, Reason: "no answer to the probe in time"})
	defer cancel()
	p := prober{tr: tr, base: base, target: t}
	st := Status{Flavour: t.Flavour}
	if health := t.Flavour.row().health; health != "" {
		status, err := p.get(ctx, health, nil)
		if err != nil {
			return st, err
		}
		if status != http.StatusOK {
			return p.refused(st, status)
		}
	}
	var list modelList
	status, err := p.get(ctx, "/v1/models", &list)
	if err != nil {
		return st, err
	}
	if status != http.StatusOK {
		return p.refused(st, status)
	}
	st.Ready = true
	owner := ""
	for _, m := range list.Data[:min(len(list.Data), maxModels)] {
		st.Models = append(st.Models, m.ID)
		st.CtxMax = max(st.CtxMax, min(m.MaxModelLen, maxCtx))
		owner = cmp.Or(owner, m.OwnedBy)
	}
	if st.Flavour == "" {
		st.Flavour = detect(owner)
	}
	p.details(ctx, &st)
	return st, nil
}

type modelList struct {
	Data []struct {
		ID          string `json:"id"`
		OwnedBy     string `json:"owned_by"`
		MaxModelLen int    `json:"max_model_len"`
	} `json:"data"`
}

// prober asks one engine.
type prober struct {
	tr     *http.Transport
	base   string
	target Target
	fields http.Header // of the last answer
}

func (p *prober) refused(st Status, status int) (Status, error) {
	if loading(status) {
		st.Loading = true
		return st, nil
	}
	return st, statusFailure(status, p.fields, time.Now())
}

// details asks for what the engine need not tell; a refusal leaves it unknown.
func (p *prober) details(ctx context.Context, st *Status) {
	row := st.Flavour.row()
	if row.props != "" {
		var props struct {
			TotalSlots int    `json:"total_slots"`
			BuildInfo  string `json:"build_info"`
			Defaults   struct {
				NCtx int `json:"n_ctx"`
			} `json:"default_generation_settings"`
		}
		if status, err := p.get(ctx, row.props, &props); err == nil && status == http.StatusOK {
			st.SlotsTotal, st.CtxMax = min(max(props.TotalSlots, 0), maxSlots), min(max(props.Defaults.NCtx, 0), maxCtx)
			st.Version = plainWord(props.BuildInfo, "")
		}
	}
	if row.version != "" {
		var v struct {
			Version string `json:"version"`
		}
		if status, err := p.get(ctx, row.version, &v); err == nil && status == http.StatusOK {
			st.Version = plainWord(v.Version, "")
		}
	}
}

// get fetches one document; into is filled only from a 200.
func (p *prober) get(ctx context.Context, path string, into any) (int, error) {
	c := newCall(ctx, &Job{FirstToken: 2 * probeTimeout}) // ctx ends earlier
	defer c.close()
	req, err := http.NewRequestWithContext(c.run, http.MethodGet, p.base+path, nil)
	if err != nil {
		return 0, &Failure{Class: Connect, Reason: "the worker's URL is not a plain http or https base", Err: err}
	}
	common(req.Header, p.target)
	if err := c.send(p.tr, req); err != nil {
		return 0, err
	}
	p.fields = c.resp.Header
	body, err := io.ReadAll(io.LimitReader(c.resp.Body, probeBytes+1))
	switch {
	case err != nil:
		return 0, c.explain(err)
	case len(body) > probeBytes:
		return 0, c.explain(errTooMuch)
	case c.resp.StatusCode != http.StatusOK || into == nil:
		return c.resp.StatusCode, nil
	}
	if json.Unmarshal(body, into) != nil {
		return 0, &Failure{Class: Protocol, Reason: "the answer to a probe is not the JSON we expect"}
	}
	return http.StatusOK, nil
}
