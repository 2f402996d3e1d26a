package orchestrator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/llorch/llorch/orchestrator/store"
)

// Rewrap wraps every stored key by the first of Config.SealKeys and returns how
// many it changed; afterwards the other seal keys may go. It can be called at any
// time, also while tasks run, and goes on where an earlier call was cut short.
// A key that is destroyed meanwhile stays destroyed. To rotate, put the new seal
// key first, restart, call Rewrap, remove the old one.
func (o *Orchestrator) Rewrap(ctx context.Context) (int, error) {
	keys, ok := o.seal.keys.(*subjectKeys)
	if !ok {
		keys = o.refs // the caller's own keys are the caller's to rotate
	}
	n, err := keys.rewrap(ctx)
	if err != nil {
		return n, fmt.Errorf("rewrap keys: %w", err)
	}
	more, err := o.rewrapErasures(ctx)
	if err != nil {
		return n + more, fmt.Errorf("rewrap erasures: %w", err)
	}
	return n + more, nil
}

// rewrap goes through the id key and the keys of persons.
func (k *subjectKeys) rewrap(ctx context.Context) (n int, err error) {
	for _, group := range []struct {
		kind   store.Kind
		prefix string
	}{{store.KindInstall, "id-key"}, {store.KindKey, "k/"}} {
		for d, err := range k.st.Docs(ctx, group.kind, group.prefix) {
			if err != nil {
				return n, err
			}
			id := strings.TrimPrefix(d.Key, "k/")
			key, pointer, by, err := k.unpack(d.Data, id)
			if err != nil {
				return n, err
			}
			if by == 0 {
				continue
			}
			d.Data = k.pack(key, id, pointer)
			changed, err := replaced(k.st.PutDoc(ctx, d, d.Version))
			if err != nil {
				return n, err
			}
			n += changed
		}
	}
	return n, nil
}

// replaced counts a document that was written; one that changed or went meanwhile
// is left as it is now.
func replaced(_ store.Version, err error) (int, error) {
	if errors.Is(err, store.ErrVersion) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return 1, nil
}

// rewrapErasures goes through the names of those who are being erased.
func (o *Orchestrator) rewrapErasures(ctx context.Context) (n int, err error) {
	select {
	case o.people.turn <- struct{}{}: // an erasure under way would lose its version
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	defer func() { <-o.people.turn }()
	for d, err := range o.store.Docs(ctx, store.KindErasure, "") {
		if err != nil {
			return n, err
		}
		e, err := decodeErasure(d)
		if err != nil {
			return n, err
		}
		if e.Done {
			continue
		}
		name, by, err := o.refs.unwrapBy(e.Subject, "erasure/"+d.Key)
		if err != nil {
			return n, err
		}
		if by == 0 {
			continue
		}
		e.Subject = o.refs.wrap(name, "erasure/"+d.Key)
		if d.Data, err = json.Marshal(e); err != nil {
			return n, err
		}
		changed, err := replaced(o.store.PutDoc(ctx, d, d.Version))
		if err != nil {
			return n, err
		}
		n += changed
	}
	return n, nil
}
