package orchestrator

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"

	"github.com/llorch/llorch/orchestrator/store"
)

// erasure is the document of an erasure: the durable mark while it goes on, the
// receipt afterwards. Only the mark can be led back to the name, with a seal key.
type erasure struct {
	Done    bool    `json:"done"`
	Counted bool    `json:"counted,omitempty"` // Receipt's counts are those before anything was deleted
	Subject []byte  `json:"subject,omitempty"` // the name, wrapped
	Reason  string  `json:"reason"`
	Receipt Erasure `json:"receipt"`

	version store.Version
}

func erasureName(ref store.SubjectRef) string { return "erasure/" + hex.EncodeToString(ref[:]) }

// erasureOf reads the document of an erasure; version 0 if there is none.
func (o *Orchestrator) erasureOf(ctx context.Context, ref store.SubjectRef) (e erasure, err error) {
	d, err := o.store.Doc(ctx, store.KindErasure, hex.EncodeToString(ref[:]))
	if errors.Is(err, store.ErrNotFound) {
		return e, nil
	}
	if err != nil {
		return e, fmt.Errorf("read erasure: %w", err)
	}
	return decodeErasure(d)
}

func decodeErasure(d store.Doc) (e erasure, err error) {
	if err := json.Unmarshal(d.Data, &e); err != nil {
		return e, fmt.Errorf("decode erasure: %w", err)
	}
	e.version = d.Version
	return e, nil
}

func (o *Orchestrator) saveErasure(ctx context.Context, ref store.SubjectRef, e *erasure) error {
	text, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode erasure: %w", err)
	}
	v, err := o.putDoc(ctx, store.Doc{Kind: store.KindErasure, Key: hex.EncodeToString(ref[:]), Data: text}, e.version)
	if err != nil {
		return fmt.Errorf("store erasure: %w", err)
	}
	e.version = v
	return nil
}

// loadErasures marks everybody whose erasure a crash has cut short.
func (o *Orchestrator) loadErasures(ctx context.Context) error {
	for d, err := range o.store.Docs(ctx, store.KindErasure, "") {
		if err != nil {
			return fmt.Errorf("read erasures: %w", err)
		}
		e, err := decodeErasure(d)
		if err != nil {
			return err
		}
		if raw, err := hex.DecodeString(d.Key); err == nil && len(raw) == len(store.SubjectRef{}) && !e.Done {
			o.people.mark(store.SubjectRef(raw))
		}
	}
	return nil
}

// resumeErasures goes on with erasures that a crash or a fault has cut short.
func (o *Orchestrator) resumeErasures(ctx context.Context) {
	o.people.mu.Lock()
	refs := make([]store.SubjectRef, 0, len(o.people.erasing))
	for ref := range o.people.erasing {
		refs = append(refs, ref)
	}
	o.people.mu.Unlock()
	for _, ref := range refs {
		if err := o.resumeErasure(ctx, ref); err != nil {
			o.log.ErrorContext(ctx, "An erasure could not be finished; it is tried again.", slog.String("event", "erasure_pending"), slog.Any("err", err))
		}
	}
}

func (o *Orchestrator) resumeErasure(ctx context.Context, ref store.SubjectRef) error {
	select {
	case o.people.turn <- struct{}{}:
	case <-ctx.Done():
		return nil
	}
	defer func() { <-o.people.turn }()
	e, err := o.erasureOf(ctx, ref)
	if err != nil {
		return err
	}
	if e.Done || e.version == 0 { // the caller finished it meanwhile
		o.people.unmark(ref)
		return nil
	}
	subject, err := o.refs.unwrap(e.Subject, erasureName(ref))
	if err != nil {
		return err
	}
	_, err = o.carryOut(context.WithoutCancel(ctx), ref, string(subject), e)
	return err
}
