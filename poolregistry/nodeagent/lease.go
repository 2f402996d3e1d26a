package nodeagent

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"

	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/poolregistry"
)

// lease is what the node remembers of its right to its id; it is the content of
// lease.json.
type lease struct {
	NodeID     poolregistry.NodeID `json:"node_id"`
	InstanceID string              `json:"instance_id"`
	Token      string              `json:"lease_token"`
	Epoch      uint64              `json:"epoch"`

	granted bool // by the registry, to this process
}

const (
	leaseFile    = "lease.json"
	maxLeaseFile = 4 << 10

	// highestEpoch is the last that a registry believes. It grants larger ones when
	// somebody who had the id before claimed that one; they are remembered as this.
	highestEpoch = 1<<52 - 1
)

// parseLease reads a lease file; what is not wholly in order is an error.
func parseLease(raw []byte) (lease, error) {
	var l lease
	if err := inputvalidation.CheckJSON("lease", raw, maxLeaseFile); err != nil {
		return lease{}, err
	}
	if json.Unmarshal(raw, &l) != nil {
		return lease{}, errors.New("lease: has another form")
	}
	if _, err := poolregistry.ParseNodeID(string(l.NodeID)); err != nil {
		return lease{}, err
	}
	if _, err := inputvalidation.ParseUUID("instance_id", l.InstanceID); err != nil {
		return lease{}, err
	}
	if err := inputvalidation.CheckIdentifier("lease_token", "t"+l.Token+"t", inputvalidation.IdentRules{Max: 128, Extra: "_-"}); err != nil || l.Token == "" {
		return lease{}, errors.New("lease: token has another form")
	}
	if l.Epoch == 0 || l.Epoch > highestEpoch {
		return lease{}, errors.New("lease: epoch is out of range")
	}
	return l, nil
}

// loadLease reads the file; anything unreadable or foreign in it is ignored.
func (a *Agent) loadLease(ctx context.Context) lease {
	if a.cfg.StateDir == nil {
		return lease{}
	}
	raw, err := a.cfg.StateDir.ReadFile(a.file, maxLeaseFile)
	if errors.Is(err, fs.ErrNotExist) {
		return lease{}
	}
	var l lease
	if err == nil {
		l, err = parseLease(raw)
	}
	if err != nil {
		a.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "lease file is ignored", slog.Any("error", err))
		return lease{}
	}
	return l
}

// saveLease replaces the file durably. A node that cannot write it still works;
// only its next restart takes longer.
func (a *Agent) saveLease(ctx context.Context) {
	if a.cfg.StateDir == nil {
		return
	}
	raw, err := json.Marshal(a.lease)
	if err == nil {
		err = a.cfg.StateDir.WriteFile(a.file, append(raw, '\n'), 0o600)
	}
	if err != nil {
		a.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "write lease file", slog.Any("error", err))
	}
}

func (a *Agent) removeLease(ctx context.Context) {
	if a.cfg.StateDir == nil {
		return
	}
	if err := a.cfg.StateDir.Remove(a.file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		a.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "remove lease file", slog.Any("error", err))
	}
}
