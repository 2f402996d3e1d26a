package orchestrator

import (
	"bytes"
	"context"
	"crypto/cipher"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/llorch/llorch/audit"
	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/worker"
)

// body is what a task needs to run and nothing else may see: it is stored
// sealed, and deleted in the commit that ends the task.
type body struct {
	Kind     worker.Kind     `json:"kind"`
	Prompt   string          `json:"prompt,omitempty"`
	Messages json.RawMessage `json:"messages,omitempty"`
	Inputs   []string        `json:"inputs,omitempty"`
	Params   worker.Params   `json:"params"`
	Raw      []byte          `json:"-"` // of a /v1 call, which is never stored
}

// size is the bytes of text in b.
func (b *body) size() int {
	n := len(b.Prompt) + len(b.Messages) + len(b.Raw)
	for _, text := range b.Inputs {
		n += len(text)
	}
	return n
}

// A box is version ‖ key id ‖ nonce and ciphertext; additional data binds it to
// its task, its owner and its field, so that no box opens in another's place
// (ORC-643).
const (
	boxVersion = 1
	boxHeader  = 1 + 16
)

// head is what names the key of a box. It is a copy, so that the box can go.
func head(box []byte) []byte { return bytes.Clone(box[:min(len(box), boxHeader)]) }

// errErased reports a box whose key is gone.
var errErased = errors.New("orchestrator: the key of this box was destroyed")

// sealer seals and opens under subjects' keys.
type sealer struct {
	keys audit.SubjectKeys
}

func boxData(id TaskID, ref store.SubjectRef, field string) []byte {
	return fmt.Appendf(nil, "llorch box v%d|%x|%x|%s", boxVersion, id[:], ref[:], field)
}

// seal returns a box that only the subject's present key opens.
func (s sealer) seal(ctx context.Context, subject string, id TaskID, ref store.SubjectRef, field string, plain []byte) ([]byte, error) {
	key, keyID, err := s.keys.Key(ctx, subject)
	if err != nil {
		return nil, err
	}
	raw, err := hex.DecodeString(keyID)
	if err != nil || len(raw) != boxHeader-1 {
		return nil, errors.New("orchestrator: key id is not 32 hex digits")
	}
	return sealBox(newGCM(key[:]), raw, id, ref, field, plain), nil
}

// reseal seals under the key that an earlier box names; used where the
// subject's name is not known, after a restart.
func (s sealer) reseal(ctx context.Context, like []byte, id TaskID, ref store.SubjectRef, field string, plain []byte) ([]byte, error) {
	gcm, err := s.find(ctx, like)
	if err != nil {
		return nil, err
	}
	return sealBox(gcm, like[1:boxHeader], id, ref, field, plain), nil
}

func sealBox(gcm cipher.AEAD, keyID []byte, id TaskID, ref store.SubjectRef, field string, plain []byte) []byte {
	box := append([]byte{boxVersion}, keyID...)
	return gcm.Seal(box, nil, plain, boxData(id, ref, field))
}

// open returns what a box holds; errErased if its key is gone.
func (s sealer) open(ctx context.Context, id TaskID, ref store.SubjectRef, field string, box []byte) ([]byte, error) {
	gcm, err := s.find(ctx, box)
	if err != nil {
		return nil, err
	}
	plain, err := gcm.Open(nil, nil, box[boxHeader:], boxData(id, ref, field))
	if err != nil {
		return nil, errors.New("orchestrator: a sealed box is damaged or out of place")
	}
	return plain, nil
}

func (s sealer) find(ctx context.Context, box []byte) (cipher.AEAD, error) {
	if len(box) < boxHeader || box[0] != boxVersion {
		return nil, errors.New("orchestrator: not a sealed box of this version")
	}
	finder, ok := s.keys.(audit.KeyFinder)
	if !ok {
		return nil, errors.New("orchestrator: Config.Keys can not find a key by id")
	}
	key, _, err := finder.Find(ctx, "", hex.EncodeToString(box[1:boxHeader]))
	if errors.Is(err, audit.ErrNoSubjectKey) {
		return nil, errErased
	}
	if err != nil {
		return nil, err
	}
	return newGCM(key[:]), nil
}
