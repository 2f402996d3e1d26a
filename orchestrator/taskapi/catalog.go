package taskapi

import (
	"strings"
	"time"

	"github.com/llorch/llorch/inputvalidation"
)

// States of a [CatalogModel].
const (
	ModelActive  = "Active"
	ModelRetired = "Retired"
)

// CatalogModel is an entry of the catalogue, and the body of POST
// /v2/catalog/models; there only id is required, and what the server finds out
// (deadline_at, last_verified_ms, verified) is not looked at.
type CatalogModel struct {
	ID             string    `json:"id"`
	Digest         string    `json:"digest,omitempty"` // sha256:<hex>
	SourceURL      string    `json:"source_url,omitempty"`
	State          string    `json:"state,omitempty"`     // Active (default) or Retired
	Aliases        []string  `json:"aliases,omitempty"`   // model references, at most 64
	Tags           []string  `json:"tags,omitempty"`      // identifiers, at most 64
	Successor      string    `json:"successor,omitempty"` // of a retired one
	DeadlineAt     time.Time `json:"deadline_at,omitzero"`
	LastVerifiedMS int64     `json:"last_verified_ms,omitempty"` // Unix ms
	Verified       []Verdict `json:"verified,omitempty"`
}

// Verdict is what one node found when it hashed a model.
type Verdict struct {
	NodeID string `json:"node_id"`
	Result string `json:"result"` // pass, warn, fail
}

// CatalogList is the body of GET /v2/catalog/models, by id.
type CatalogList struct {
	Models []CatalogModel `json:"models"`
}

// ModelState is the body of POST /v2/catalog/models/{id}/state.
type ModelState struct {
	State      string `json:"state"`
	DeadlineMS int64  `json:"deadline_ms,omitempty"` // waiting tasks run for so long; 0 = they end now
}

const (
	maxNames  = 64
	maxSource = 2048 // bytes of a URL
	hexSHA256 = 64   // digits
)

// DecodeModel reads an entry of the catalogue.
func DecodeModel(body []byte) (c CatalogModel, err error) {
	m := readBody(body)
	m.require("id")
	m.model("id", &c.ID)
	m.model("successor", &c.Successor)
	if take(m, "digest", &c.Digest); m.err == nil && c.Digest != "" {
		hex, ok := strings.CutPrefix(c.Digest, "sha256:")
		if len(hex) != hexSHA256 || !ok || strings.Trim(hex, "0123456789abcdef") != "" {
			m.fail("digest", "syntax")
		}
	}
	if take(m, "source_url", &c.SourceURL); len(c.SourceURL) > maxSource {
		m.fail("source_url", "too_long")
	} else if strings.ContainsFunc(c.SourceURL, func(r rune) bool { return r <= ' ' || r > '~' }) {
		m.fail("source_url", "charset")
	}
	c.State = ModelActive
	m.enum("state", &c.State, ModelActive, ModelRetired)
	if take(m, "aliases", &c.Aliases); len(c.Aliases) > maxNames {
		m.fail("aliases", "too_many")
	}
	for _, name := range c.Aliases {
		m.adopt("aliases", refFault("aliases", name))
	}
	m.idents("tags", &c.Tags, maxNames, word)
	return c, m.done()
}

// DecodeModelState reads the body of POST /v2/catalog/models/{id}/state.
func DecodeModelState(body []byte) (s ModelState, err error) {
	m := readBody(body)
	m.require("state")
	m.enum("state", &s.State, ModelActive, ModelRetired)
	take(m, "deadline_ms", &s.DeadlineMS)
	between(m, "deadline_ms", s.DeadlineMS, 0, maxDeadlineMS)
	return s, m.done()
}

// model reads a model reference.
func (m *members) model(name string, dst *string) {
	if take(m, name, dst); m.err == nil && m.has(name) {
		m.adopt(name, refFault(name, *dst))
	}
}

func refFault(name, ref string) error {
	_, err := inputvalidation.ParseModelRef(name, ref)
	return err
}
