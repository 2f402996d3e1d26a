package orchestrator

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/taskapi"
)

// Artifact is a document that a caller keeps beside its tasks. Its id is the
// SHA-256 of its bytes, in lower-case hexadecimal.
type Artifact struct {
	ID      string
	Kind    string // plan, summary, diff, trace, logs, other
	Data    []byte // at most 4 MiB
	Created time.Time
}

// Bounds of artifacts.
const (
	maxArtifact  = 4 << 20
	maxArtifacts = 1000 // of one person
)

var artifactKinds = []string{"plan", "summary", "diff", "trace", "logs", "other"}

// artifactHead is the first line of a stored artifact; the sealed box follows.
type artifactHead struct {
	Kind    string `json:"kind"`
	Created int64  `json:"created_ms"`
}

// PutArtifact keeps bytes for the caller, 1 byte to 4 MiB, for
// Retention.Artifacts; the same bytes twice are one artifact, the first. A person
// has at most 1,000.
func (o *Orchestrator) PutArtifact(ctx context.Context, p Principal, kind string, data []byte) (Artifact, error) {
	ref, err := o.ownerOf(ctx, p)
	switch {
	case err != nil:
		return Artifact{}, err
	case !slices.Contains(artifactKinds, kind):
		return Artifact{}, taskapi.InvalidField("kind", "unknown")
	case len(data) == 0:
		return Artifact{}, taskapi.InvalidField("data", "required")
	case len(data) > maxArtifact:
		return Artifact{}, taskapi.NewError(taskapi.BodyTooLarge).With("limit", maxArtifact)
	}
	leave, err := o.people.enter(ref)
	if err != nil {
		return Artifact{}, err
	}
	defer leave()
	sum := sha256.Sum256(data)
	a := Artifact{ID: hexSum(sum), Kind: kind, Data: data, Created: time.Now().UTC().Truncate(time.Millisecond)}
	old, err := o.artifact(ctx, ref, a.ID)
	if err == nil {
		return old, nil
	}
	if !errors.Is(err, taskapi.NotFound) {
		return Artifact{}, wireError(err)
	}
	if err := o.storeArtifact(ctx, p.Subject(), ref, a); err != nil {
		return Artifact{}, wireError(err)
	}
	return o.Artifact(ctx, p, a.ID) // of two at once the first one stands
}

// storeArtifact writes the due document first: without the other it is garbage
// that the next purge takes, never the reverse.
func (o *Orchestrator) storeArtifact(ctx context.Context, subject string, ref store.SubjectRef, a Artifact) error {
	n := 0
	for _, err := range o.store.Docs(ctx, store.KindDue, own(ref)) {
		if err != nil {
			return fmt.Errorf("count artifacts: %w", err)
		}
		if n++; n >= maxArtifacts {
			return taskapi.NewError(taskapi.QuotaExceeded).With("limit", maxArtifacts)
		}
	}
	head, err := json.Marshal(artifactHead{a.Kind, a.Created.UnixMilli()})
	if err != nil {
		return fmt.Errorf("encode artifact: %w", err)
	}
	id, field := artifactBox(a.ID, head)
	box, err := o.seal.seal(ctx, subject, id, ref, field, a.Data)
	if err != nil {
		return err
	}
	due := own(ref) + strconv.FormatInt(a.Created.UnixMilli(), 10) + "/" + a.ID
	if _, err := o.putDoc(ctx, store.Doc{Kind: store.KindDue, Key: due}, 0); err != nil && !errors.Is(err, store.ErrVersion) {
		return fmt.Errorf("store artifact: %w", err)
	}
	d := store.Doc{Kind: store.KindArtifact, Key: own(ref) + a.ID, Data: slices.Concat(head, []byte{'\n'}, box)}
	old, err := o.store.Doc(ctx, d.Kind, d.Key) // an expired one that no purge has taken yet
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("read artifact: %w", err)
	}
	if _, err := o.putDoc(ctx, d, old.Version); err != nil && !errors.Is(err, store.ErrVersion) {
		return fmt.Errorf("store artifact: %w", err)
	}
	return nil
}

// artifactBox returns what binds the box of an artifact to its place: the first
// half of its id, and everything else that is stored in clear.
func artifactBox(id string, head []byte) (TaskID, string) {
	raw, _ := hex.DecodeString(id) // the caller has checked it
	return TaskID(raw[:16]), "artifact|" + id + "|" + string(head)
}

// Artifact returns an artifact of the caller; a foreign one is as unknown as one
// that never was.
func (o *Orchestrator) Artifact(ctx context.Context, p Principal, id string) (Artifact, error) {
	ref, err := o.ownerOf(ctx, p)
	if err != nil {
		return Artifact{}, err
	}
	if raw, err := hex.DecodeString(id); err != nil || len(raw) != sha256.Size || strings.ToLower(id) != id {
		return Artifact{}, taskapi.NewError(taskapi.NotFound)
	}
	a, err := o.artifact(ctx, ref, id)
	if err != nil {
		return Artifact{}, wireError(err)
	}
	return a, nil
}

// ownerOf returns the reference of a caller who may have data of its own.
func (o *Orchestrator) ownerOf(ctx context.Context, p Principal) (store.SubjectRef, error) {
	if !p.Has(RoleUser) {
		return store.SubjectRef{}, taskapi.NewError(taskapi.Forbidden)
	}
	_, ref, err := o.whose(ctx, p, "", "artifact")
	if err == nil {
		err = o.Ready()
	}
	return ref, err
}

func (o *Orchestrator) artifact(ctx context.Context, ref store.SubjectRef, id string) (Artifact, error) {
	d, err := o.store.Doc(ctx, store.KindArtifact, own(ref)+id)
	if errors.Is(err, store.ErrNotFound) {
		return Artifact{}, taskapi.NewError(taskapi.NotFound)
	}
	if err != nil {
		return Artifact{}, fmt.Errorf("read artifact: %w", err)
	}
	return o.openArtifact(ctx, ref, d)
}

// openArtifact unseals a stored artifact; NOT_FOUND when its time is over.
func (o *Orchestrator) openArtifact(ctx context.Context, ref store.SubjectRef, d store.Doc) (Artifact, error) {
	head, box, _ := bytes.Cut(d.Data, []byte{'\n'})
	var h artifactHead
	if err := json.Unmarshal(head, &h); err != nil {
		return Artifact{}, fmt.Errorf("decode artifact: %w", err)
	}
	a := Artifact{ID: strings.TrimPrefix(d.Key, own(ref)), Kind: h.Kind, Created: time.UnixMilli(h.Created).UTC()}
	if keep := o.cfg.Retention.Artifacts; keep >= 0 && time.Since(a.Created) >= keep {
		return Artifact{}, taskapi.NewError(taskapi.NotFound)
	}
	id, field := artifactBox(a.ID, head)
	plain, err := o.seal.open(ctx, id, ref, field, box)
	if errors.Is(err, errErased) {
		return Artifact{}, taskapi.NewError(taskapi.SubjectErased)
	}
	a.Data = plain
	return a, err
}

// purgeArtifacts deletes up to limit artifacts that were made before the instant.
func (o *Orchestrator) purgeArtifacts(ctx context.Context, before time.Time, limit int) (n int, err error) {
	for d, err := range o.store.Docs(ctx, store.KindDue, "") {
		if err != nil {
			return n, err
		}
		if n == limit {
			break
		}
		part := strings.Split(d.Key, "/") // person, instant, id
		if len(part) != 3 {
			continue
		}
		at, err := strconv.ParseInt(part[1], 10, 64)
		if err != nil || !time.UnixMilli(at).Before(before) {
			continue
		}
		if err := o.dropArtifact(ctx, part[0]+"/"+part[2], at); err != nil {
			return n, err
		}
		if err := o.store.DeleteDoc(ctx, d.Kind, d.Key, d.Version); err != nil && !errors.Is(err, store.ErrVersion) {
			return n, err
		}
		n++
	}
	return n, nil
}

// dropArtifact deletes an artifact if it is the one that was made at an instant,
// not a later one of the same bytes.
func (o *Orchestrator) dropArtifact(ctx context.Context, key string, at int64) error {
	d, err := o.store.Doc(ctx, store.KindArtifact, key)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	head, _, _ := bytes.Cut(d.Data, []byte{'\n'})
	var h artifactHead
	if err := json.Unmarshal(head, &h); err != nil || h.Created > at {
		return nil // a later one, or not ours to judge
	}
	if err := o.store.DeleteDoc(ctx, d.Kind, d.Key, d.Version); err != nil && !errors.Is(err, store.ErrVersion) {
		return err
	}
	return nil
}
