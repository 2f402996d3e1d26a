package orchestrator

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/llorch/llorch/audit"
	"github.com/llorch/llorch/orchestrator/store"
)

// kekInfo separates the keys that wrap subject keys from every other use.
const kekInfo = "llorch/orchestrator/kek/v1"

// Bounds of the copies of subject keys in memory.
const (
	keyCacheTTL  = 10 * time.Second
	keyCacheSize = 4096
)

// subjectKeys keeps one random key per person as a wrapped document: under
// "s/<reference>" the key's id, under "k/<id>" the wrapped key and the name of the
// other document. A key that its person's document does not name is as good as
// destroyed. A person's name is nowhere in the store.
type subjectKeys struct {
	st   store.Store
	keks []cipher.AEAD // the first wraps, all unwrap

	mu    sync.Mutex
	idKey []byte // loaded on first use
	cache map[string]cachedKey
	gone  uint64 // keys destroyed here: what was read before is not cached after
}

type cachedKey struct {
	key   [32]byte
	id    string
	until time.Time
}

// NewSubjectKeys keeps a key for each person in st, wrapped by keys derived
// from sealKeys (32 bytes each; the first wraps, all unwrap). It is also an
// [audit.KeyFinder]. Destroying a key is the erasure of everything sealed under
// it. Use one value for audit and orchestrator. It does no I/O before its first
// use and panics on a seal key of another length: [Config] checks them.
func NewSubjectKeys(st store.Store, sealKeys [][]byte) audit.SubjectKeys {
	k := &subjectKeys{st: st, cache: make(map[string]cachedKey)}
	for _, secret := range sealKeys {
		if len(secret) != 32 {
			panic("orchestrator: a seal key is not 32 bytes long")
		}
		kek, err := hkdf.Key(sha256.New, secret, nil, kekInfo, 32)
		if err != nil {
			panic("orchestrator: derive key: " + err.Error())
		}
		k.keks = append(k.keks, newGCM(kek))
	}
	return k
}

var (
	_ audit.SubjectKeys = (*subjectKeys)(nil)
	_ audit.KeyFinder   = (*subjectKeys)(nil)
)

// newGCM returns AES-256-GCM with random nonces; key is 32 bytes.
func newGCM(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic("orchestrator: new cipher: " + err.Error())
	}
	gcm, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic("orchestrator: new GCM: " + err.Error())
	}
	return gcm
}

func (k *subjectKeys) wrap(key []byte, name string) []byte {
	return k.keks[0].Seal(nil, nil, key, []byte("llorch key v1|"+name))
}

func (k *subjectKeys) unwrap(box []byte, name string) ([]byte, error) {
	key, _, err := k.unwrapBy(box, name)
	return key, err
}

// unwrapBy also says which seal key opened the box.
func (k *subjectKeys) unwrapBy(box []byte, name string) ([]byte, int, error) {
	for i, kek := range k.keks {
		if key, err := kek.Open(nil, nil, box, []byte("llorch key v1|"+name)); err == nil {
			return key, i, nil
		}
	}
	return nil, 0, errors.New("orchestrator: no seal key opens a stored key; was data.key replaced?")
}

// wrappedKey is the size of a wrapped key: nonce, key, tag.
const wrappedKey = 12 + 32 + 16

// pack makes the document of a key that belongs to the document pointer.
func (k *subjectKeys) pack(key []byte, id, pointer string) []byte {
	if pointer == "" { // of an earlier version
		return k.wrap(key, id)
	}
	return append(k.wrap(key, id+"|"+pointer), pointer...)
}

// unpack opens the document of a key.
func (k *subjectKeys) unpack(data []byte, id string) (key []byte, pointer string, by int, err error) {
	if len(data) > wrappedKey {
		data, pointer = data[:wrappedKey], string(data[wrappedKey:])
		id += "|" + pointer
	}
	key, by, err = k.unwrapBy(data, id)
	return key, pointer, by, err
}

// installKey returns the key that turns names into references, made once per store.
func (k *subjectKeys) installKey(ctx context.Context) ([]byte, error) {
	k.mu.Lock()
	key := k.idKey
	k.mu.Unlock()
	if key != nil {
		return key, nil
	}
	const name = "id-key"
	for range 2 { // a second round if another caller made it meanwhile
		d, err := k.st.Doc(ctx, store.KindInstall, name)
		if err == nil {
			if key, err = k.unwrap(d.Data, name); err != nil {
				return nil, err
			}
			k.mu.Lock()
			k.idKey = key
			k.mu.Unlock()
			return key, nil
		}
		if !errors.Is(err, store.ErrNotFound) {
			return nil, fmt.Errorf("read id key: %w", err)
		}
		fresh := make([]byte, 32)
		rand.Read(fresh)
		_, err = k.st.PutDoc(ctx, store.Doc{Kind: store.KindInstall, Key: name, Data: k.wrap(fresh, name)}, 0)
		if err != nil && !errors.Is(err, store.ErrVersion) {
			return nil, fmt.Errorf("store id key: %w", err)
		}
	}
	return nil, errors.New("orchestrator: the id key vanished while it was read")
}

// ref returns the reference of a name: HMAC-SHA-256(id key, kind ‖ 0 ‖ name)[:16] (ORC-123).
func (k *subjectKeys) ref(ctx context.Context, kind, name string) (store.SubjectRef, error) {
	key, err := k.installKey(ctx)
	if err != nil {
		return store.SubjectRef{}, err
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(kind))
	mac.Write([]byte{0})
	mac.Write([]byte(name))
	return store.SubjectRef(mac.Sum(nil)[:16]), nil
}

// pointer is the document that leads from a subject to its key.
type pointer struct {
	ID string `json:"id"`
}

// Key returns the subject's key, making and storing one if there is none.
func (k *subjectKeys) Key(ctx context.Context, subject string) ([32]byte, string, error) {
	ref, err := k.ref(ctx, "subject", subject)
	if err != nil {
		return [32]byte{}, "", err
	}
	name := "s/" + hex.EncodeToString(ref[:])
	if c, _, ok := k.cached(name); ok {
		return c.key, c.id, nil
	}
	for range 2 {
		key, id, err := k.Find(ctx, subject, "")
		if !errors.Is(err, audit.ErrNoSubjectKey) {
			return key, id, err
		}
		if err := k.make(ctx, name); err != nil {
			return [32]byte{}, "", err
		}
	}
	return [32]byte{}, "", audit.ErrNoSubjectKey
}

// make stores a fresh key, then the pointer to it: without the pointer the key
// is garbage, never the reverse.
func (k *subjectKeys) make(ctx context.Context, name string) error {
	var raw [16]byte
	rand.Read(raw[:])
	id := hex.EncodeToString(raw[:])
	key := make([]byte, 32)
	rand.Read(key)
	made, err := k.st.PutDoc(ctx, store.Doc{Kind: store.KindKey, Key: "k/" + id, Data: k.pack(key, id, name)}, 0)
	if err != nil {
		return fmt.Errorf("store subject key: %w", err)
	}
	text, err := json.Marshal(pointer{id})
	if err != nil {
		return fmt.Errorf("encode key pointer: %w", err)
	}
	_, err = k.st.PutDoc(ctx, store.Doc{Kind: store.KindKey, Key: name, Data: text}, 0)
	if errors.Is(err, store.ErrVersion) {
		if err = k.heal(ctx, name, text); errors.Is(err, store.ErrVersion) { // somebody was faster: drop ours
			return k.st.DeleteDoc(ctx, store.KindKey, "k/"+id, made)
		}
	}
	if err != nil {
		return fmt.Errorf("store key pointer: %w", err)
	}
	return nil
}

// heal replaces a pointer whose key is gone: a crash came between the two steps
// of Destroy. ErrVersion if the key is there.
func (k *subjectKeys) heal(ctx context.Context, name string, text []byte) error {
	d, err := k.doc(ctx, name)
	if errors.Is(err, audit.ErrNoSubjectKey) {
		return store.ErrVersion // gone meanwhile: the caller looks again
	}
	var p pointer
	if err == nil {
		err = json.Unmarshal(d.Data, &p)
	}
	if err == nil {
		if _, err = k.doc(ctx, "k/"+p.ID); err == nil {
			return store.ErrVersion
		}
	}
	if !errors.Is(err, audit.ErrNoSubjectKey) {
		return err
	}
	_, err = k.st.PutDoc(ctx, store.Doc{Kind: store.KindKey, Key: name, Data: text}, d.Version)
	return err
}

// Find returns a key by subject or by id; it never makes one.
func (k *subjectKeys) Find(ctx context.Context, subject, id string) ([32]byte, string, error) {
	name := "k/" + id
	if subject != "" {
		ref, err := k.ref(ctx, "subject", subject)
		if err != nil {
			return [32]byte{}, "", err
		}
		name = "s/" + hex.EncodeToString(ref[:])
	}
	c, before, ok := k.cached(name)
	if ok {
		return c.key, c.id, nil
	}
	if subject != "" {
		var err error
		if id, err = k.present(ctx, name); err != nil {
			return [32]byte{}, "", err
		}
	}
	d, err := k.doc(ctx, "k/"+id)
	if err != nil {
		return [32]byte{}, "", err
	}
	key, pointer, _, err := k.unpack(d.Data, id)
	if err != nil {
		return [32]byte{}, "", err
	}
	if subject == "" && pointer != "" {
		if now, err := k.present(ctx, pointer); err != nil || now != id {
			return [32]byte{}, "", errors.Join(err, audit.ErrNoSubjectKey)
		}
	}
	c = cachedKey{key: [32]byte(key), id: id, until: time.Now().Add(keyCacheTTL)}
	k.keep(name, c, before)
	return c.key, c.id, nil
}

// present returns the id of the key that a person has now.
func (k *subjectKeys) present(ctx context.Context, name string) (string, error) {
	d, err := k.doc(ctx, name)
	if err != nil {
		return "", err
	}
	var p pointer
	if err := json.Unmarshal(d.Data, &p); err != nil {
		return "", fmt.Errorf("decode key pointer: %w", err)
	}
	return p.ID, nil
}

func (k *subjectKeys) doc(ctx context.Context, name string) (store.Doc, error) {
	d, err := k.st.Doc(ctx, store.KindKey, name)
	if errors.Is(err, store.ErrNotFound) {
		return d, audit.ErrNoSubjectKey
	}
	if err != nil {
		return d, fmt.Errorf("read subject key: %w", err)
	}
	return d, nil
}

// Destroy deletes the key, then the pointer to it.
func (k *subjectKeys) Destroy(ctx context.Context, subject string) error {
	ref, err := k.ref(ctx, "subject", subject)
	if err != nil {
		return err
	}
	name := "s/" + hex.EncodeToString(ref[:])
	d, err := k.doc(ctx, name)
	if errors.Is(err, audit.ErrNoSubjectKey) {
		return nil
	}
	if err != nil {
		return err
	}
	var p pointer
	if err := json.Unmarshal(d.Data, &p); err != nil {
		return fmt.Errorf("decode key pointer: %w", err)
	}
	defer k.uncache(name, "k/"+p.ID)
	k.uncache(name, "k/"+p.ID)
	key, err := k.doc(ctx, "k/"+p.ID)
	if err == nil {
		err = k.st.DeleteDoc(ctx, store.KindKey, "k/"+p.ID, key.Version)
	}
	if err != nil && !errors.Is(err, audit.ErrNoSubjectKey) {
		return fmt.Errorf("delete subject key: %w", err)
	}
	if err := k.st.DeleteDoc(ctx, store.KindKey, name, d.Version); err != nil {
		return fmt.Errorf("delete key pointer: %w", err)
	}
	return nil
}

// uncache forgets a key, also one that is being read right now.
func (k *subjectKeys) uncache(names ...string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.gone++
	for _, n := range names {
		delete(k.cache, n)
	}
}

// cached returns a key in memory, and what keep has to be told of the instant.
func (k *subjectKeys) cached(name string) (cachedKey, uint64, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	c, ok := k.cache[name]
	if ok && time.Now().After(c.until) {
		delete(k.cache, name)
		ok = false
	}
	return c, k.gone, ok
}

// keep remembers a key for a short time, unless one was destroyed since before; a
// full cache is emptied, it refills.
func (k *subjectKeys) keep(name string, c cachedKey, before uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.gone != before {
		return
	}
	if len(k.cache) >= keyCacheSize {
		clear(k.cache)
	}
	k.cache[name] = c
}
