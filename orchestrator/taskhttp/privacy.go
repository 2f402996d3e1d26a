package taskhttp

import (
	"encoding/json"
	"net/http"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/taskapi"
)

// subject returns whom a request is about: the caller, if it does not say.
func (c *call) subject(said string) string {
	if said == "" {
		return c.p.Subject()
	}
	return said
}

// querySubject reads ?subject=.
func (c *call) querySubject() (string, error) {
	q := c.r.URL.Query()
	if why := taskapi.SubjectFault(q.Get("subject")); q.Has("subject") && why != "" {
		return "", taskapi.InvalidField("subject", why)
	}
	return c.subject(q.Get("subject")), nil
}

// export is GET /gdpr/export?subject=: one JSON line for each thing stored. What
// fails in the middle is the last line, and no manifest follows.
func (h *handler) export(c *call) error {
	subject, err := c.querySubject()
	if err != nil {
		return err
	}
	if err := h.enter(); err != nil {
		return err
	}
	defer h.leave()
	rc := http.NewResponseController(c.w)
	var buf []byte
	begun := false
	flush := func() error {
		if !begun {
			begun = true
			c.w.Header().Set("Content-Type", "application/x-ndjson")
			c.w.Header().Set("Cache-Control", "no-store")
			c.w.Header().Set("X-Content-Type-Options", "nosniff")
			c.w.WriteHeader(http.StatusOK)
		}
		err := send(c.w, rc, buf)
		buf = buf[:0]
		return err
	}
	for item, err := range h.Orchestrator.Export(c.r.Context(), c.p, subject) {
		line, coded := exportLine(item)
		if err == nil {
			err = coded
		}
		if err != nil {
			if !begun && len(buf) == 0 {
				return err
			}
			e := c.fault(err)
			e.Details = nil
			line, _ = json.Marshal(taskapi.ExportLine{Error: new(e.Body(c.correlation).Error)})
		}
		if buf = append(append(buf, line...), '\n'); len(buf) < coalesce && err == nil {
			continue
		}
		if err := flush(); err != nil {
			c.lost(err)
			return nil
		}
		if err != nil {
			return nil
		}
	}
	if err := flush(); err != nil {
		c.lost(err)
	}
	return nil
}

func exportLine(item orchestrator.ExportItem) ([]byte, error) {
	return json.Marshal(taskapi.ExportLine{Section: item.Section, Data: item.Data})
}

// erase is POST /gdpr/delete.
func (h *handler) erase(c *call) error {
	req, err := decoded(c, c.optionalBody, taskapi.DecodeErase)
	if err != nil {
		return err
	}
	r, err := h.Orchestrator.Erase(c.r.Context(), c.p, c.subject(req.Subject), req.Reason)
	return c.show(http.StatusOK, taskapi.Erasure(r), err)
}

// consents is GET /gdpr/consent?subject=.
func (h *handler) consents(c *call) error {
	subject, err := c.querySubject()
	if err != nil {
		return err
	}
	return c.consentList(subject)
}

// setConsent is POST /gdpr/consent; it answers with all that the person has said.
func (h *handler) setConsent(c *call) error {
	req, err := decoded(c, c.body, taskapi.DecodeConsent)
	if err != nil {
		return err
	}
	said := orchestrator.Consent{Subject: c.subject(req.Subject), Purpose: req.Purpose, Granted: req.Granted}
	if err := h.Orchestrator.SetConsent(c.r.Context(), c.p, said); err != nil {
		return err
	}
	return c.consentList(said.Subject)
}

func (c *call) consentList(subject string) error {
	list, err := c.h.Orchestrator.Consents(c.r.Context(), c.p, subject)
	return c.show(http.StatusOK, taskapi.ConsentList{Consents: each(list, func(x orchestrator.Consent) taskapi.Consent { return taskapi.Consent(x) })}, err)
}
