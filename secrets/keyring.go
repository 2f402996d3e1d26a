package secrets

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"maps"
	"reflect"
	"slices"
)

// What opening a box can come to, beside [ErrFormat].
var (
	ErrUnsealable = errors.New("unsealable")
	ErrUnknownKey = errors.New("unknown key")
)

// A box is magic ‖ alg ‖ key id ‖ nonce ‖ ciphertext ‖ tag. The first three are its
// header, which every box binds as additional data.
const (
	boxMagic    = "LLS1"
	algGCM      = 0x01 // AES-256-GCM with a random nonce of 12 bytes and a tag of 16
	headerLen   = len(boxMagic) + 1 + 4
	boxOverhead = headerLen + 12 + 16

	maxKeys      = 256
	maxPlaintext = 64 << 20 // a box is opened in memory as a whole
	maxAAD       = 64 << 10 // it is copied behind the header
)

// Keyring seals data at rest under its primary key and opens what any of its keys
// sealed. A box names its key, so exactly one key is tried.
//
// To rotate, make a keyring with a new primary and the old keys, [Keyring.Reseal]
// every box, and drop an old key once [Keyring.KeyOf] no longer finds it: what is
// left under a dropped key can never be read again. Nonces are random, so one key
// may seal at most 2^32 boxes; rotate long before.
//
// A Keyring never changes, prints [REDACTED], and may be used from several
// goroutines at once. It keeps key schedules of its own: destroying a Key that it
// was made from does not disable it. The zero Keyring has no keys: it seals and
// opens nothing.
type Keyring struct {
	redacted
	ring func() *ring // a closure, so that dumpers that follow pointers stop here
}

// ring is what a Keyring hides. It never changes after it was made.
type ring struct {
	primary uint32
	ids     []uint32 // ascending
	ciphers map[uint32]cipher.AEAD
}

// NewKeyring makes a keyring of 1 to 256 keys under ids from 1 on. primary, the id
// of the key that seals, is one of them; else [ErrFormat].
func NewKeyring(primary uint32, keys map[uint32]Key) (*Keyring, error) {
	if len(keys) > maxKeys {
		return nil, fault("make", ErrFormat, "a keyring has at most 256 keys")
	}
	if _, ok := keys[primary]; !ok {
		return nil, fault("make", ErrFormat, fmt.Sprintf("the primary key %d is not in the keyring", primary))
	}
	r := &ring{primary: primary, ids: slices.Sorted(maps.Keys(keys)), ciphers: make(map[uint32]cipher.AEAD, len(keys))}
	if r.ids[0] == 0 {
		return nil, fault("make", ErrFormat, "ids of keys begin at 1")
	}
	for _, id := range r.ids {
		err := keys[id].Use(func(b *[32]byte) error {
			block, err := aes.NewCipher(b[:])
			if err != nil {
				return err
			}
			r.ciphers[id], err = cipher.NewGCMWithRandomNonce(block)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("use key %d of the keyring: %w", id, err)
		}
	}
	return &Keyring{ring: func() *ring { return r }}, nil
}

// keys returns what k hides; a ring without keys for the zero Keyring.
func (k *Keyring) keys() *ring {
	if k == nil || k.ring == nil {
		return &ring{}
	}
	return k.ring()
}

// IDs returns the ids of all keys in ascending order.
func (k *Keyring) IDs() iter.Seq[uint32] { return slices.Values(k.keys().ids) }

// Seal encrypts plaintext under the primary key, binds it to aad, which must be
// the same when it is opened, appends the box to dst and returns the longer slice.
// The box is 37 bytes longer than plaintext. plaintext has at most 64 MiB and aad
// at most 64 KiB, else [ErrFormat]. dst may share memory with plaintext and aad,
// which are then overwritten only within the spare capacity of dst, or not at all.
func (k *Keyring) Seal(dst, plaintext, aad []byte) ([]byte, error) {
	r := k.keys()
	gcm, ok := r.ciphers[r.primary]
	switch {
	case !ok:
		return nil, fault("seal", ErrFormat, "the zero Keyring has no keys")
	case len(plaintext) > maxPlaintext:
		return nil, fault("seal", ErrFormat, "more than 64 MiB to seal")
	case len(aad) > maxAAD:
		return nil, fault("seal", ErrFormat, "more than 64 KiB of additional data")
	}
	data := make([]byte, 0, headerLen+len(aad))
	data = append(data, boxMagic...)
	data = append(data, algGCM)
	data = binary.BigEndian.AppendUint32(data, r.primary)
	data = append(data, aad...)

	size := boxOverhead + len(plaintext)
	if spare := dst[len(dst):cap(dst)]; overlap(spare[:min(size, len(spare))], plaintext) {
		dst = slices.Clip(dst) // the header would overwrite plaintext
	}
	dst = append(slices.Grow(dst, size), data[:headerLen]...)
	return gcm.Seal(dst, nil, plaintext, data), nil
}

// overlap reports whether a and b share a byte of memory.
func overlap(a, b []byte) bool {
	if len(a) == 0 || len(b) == 0 {
		return false
	}
	x, y := reflect.ValueOf(&a[0]).Pointer(), reflect.ValueOf(&b[0]).Pointer()
	return x < y+uintptr(len(b)) && y < x+uintptr(len(a))
}

// Open appends to dst what a box holds and returns the longer slice. aad is what
// it was sealed with. Errors are [ErrFormat] if sealed does not begin like a box,
// [ErrUnknownKey] if the keyring has no key of that id, and [ErrUnsealable] for
// everything else, which does not tell a wrong key from a changed bit or from
// another aad. With an error no byte of dst has changed, its spare capacity
// included. dst may share memory with sealed and aad.
func (k *Keyring) Open(dst, sealed, aad []byte) ([]byte, error) {
	id, err := boxKey("open", sealed)
	if err != nil {
		return nil, err
	}
	gcm, ok := k.keys().ciphers[id]
	if !ok {
		return nil, fault("open", ErrUnknownKey, fmt.Sprintf("key %d is not in the keyring", id))
	}
	if len(sealed) > boxOverhead+maxPlaintext || len(aad) > maxAAD {
		return nil, unsealable()
	}
	data := make([]byte, 0, headerLen+len(aad))
	data = append(append(data, sealed[:headerLen]...), aad...)
	plain, err := gcm.Open(nil, nil, sealed[headerLen:], data) // beside dst: it writes before it has judged
	if err != nil {
		return nil, unsealable()
	}
	if len(dst) == 0 && cap(dst) < len(plain) {
		return plain, nil
	}
	dst = append(dst, plain...)
	clear(plain)
	return dst, nil
}

func unsealable() error {
	return fault("open", ErrUnsealable, "the box is damaged, or of another place or key")
}

// Reseal returns a box with the same content under the primary key, and true. A
// box that is under the primary already comes back as it is, unopened, with false.
// Errors are those of [Keyring.Open].
func (k *Keyring) Reseal(sealed, aad []byte) (out []byte, changed bool, err error) {
	id, err := boxKey("open", sealed)
	if err != nil {
		return nil, false, err
	}
	if id == k.keys().primary {
		return sealed, false, nil
	}
	plain, err := k.Open(nil, sealed, aad)
	if err != nil {
		return nil, false, err
	}
	defer clear(plain)
	out, err = k.Seal(nil, plain, aad)
	return out, err == nil, err
}

// KeyOf returns the id of the key that a box names, whether or not the keyring has
// it. Nothing is decrypted, so a damaged box may name any key. What does not begin
// like a box is [ErrFormat].
func (k *Keyring) KeyOf(sealed []byte) (uint32, error) { return boxKey("read", sealed) }

// boxKey reads the header of a box.
func boxKey(op string, sealed []byte) (uint32, error) {
	if len(sealed) < headerLen || string(sealed[:len(boxMagic)]) != boxMagic {
		return 0, fault(op, ErrFormat, "it does not begin like a sealed box")
	}
	if sealed[len(boxMagic)] != algGCM {
		return 0, fault(op, ErrFormat, "the box is sealed in an unknown way")
	}
	id := binary.BigEndian.Uint32(sealed[headerLen-4:])
	if id == 0 {
		return 0, fault(op, ErrFormat, "the box names no key")
	}
	return id, nil
}
