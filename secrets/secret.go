package secrets

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"runtime"
	"sync"
)

// Secret is a handle on secret bytes. Copies share the bytes, the zero Secret is
// empty, and == does not compile: use Equal or EqualSecret.
type Secret struct {
	redacted
	open func() *payload // a closure, so that dumpers that follow pointers stop here
}

// payload owns the bytes.
type payload struct {
	mu    sync.Mutex
	b     []byte // nil once wiped
	users int    // running Use calls
	dead  bool
}

// New copies b to an allocation of its own, of exact size, and wipes b.
func New(b []byte) Secret {
	if len(b) == 0 {
		return Secret{}
	}
	own := make([]byte, len(b))
	copy(own, b)
	clear(b)
	p := &payload{b: own}
	runtime.AddCleanup(p, func(b []byte) { clear(b) }, own)
	return Secret{open: func() *payload { return p }}
}

// Use lends the bytes to fn, which must neither change nor keep them: cap is len,
// and Destroy wipes them. The zero Secret lends an empty slice. It returns the
// error of fn, or [ErrDestroyed] without calling it.
func (s Secret) Use(fn func(b []byte) error) error {
	if s.open == nil {
		return fn(nil)
	}
	p := s.open()
	b, ok := p.borrow()
	if !ok {
		return fault("use", ErrDestroyed, "it was destroyed")
	}
	defer p.release(1, false)
	return fn(b[:len(b):len(b)])
}

func (p *payload) borrow() ([]byte, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead {
		return nil, false
	}
	p.users++
	return p.b, true
}

// release ends so many uses, or, if dead, the payload.
func (p *payload) release(users int, dead bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.users -= users
	p.dead = p.dead || dead
	if p.dead && p.users == 0 {
		clear(p.b)
		p.b = nil
	}
}

// Destroy wipes the bytes, of all copies: now, or when the last Use returns. It
// never blocks, also inside Use, and may be called again.
func (s Secret) Destroy() {
	if s.open != nil {
		s.open().release(0, true)
	}
}

// Len returns the number of bytes, 0 after Destroy.
func (s Secret) Len() (n int) {
	_ = s.Use(func(b []byte) error { n = len(b); return nil })
	return n
}

// IsZero reports whether there are no bytes.
func (s Secret) IsZero() bool { return s.Len() == 0 }

// Equal reports whether the secret is b, in a time that depends on neither
// content. A zero or destroyed Secret equals nothing, not even empty input.
func (s Secret) Equal(b []byte) (same bool) {
	_ = s.Use(func(own []byte) error {
		x, y := digest(own), digest(b)
		same = subtle.ConstantTimeCompare(x[:], y[:]) == 1 && len(own) > 0
		return nil
	})
	return same
}

// EqualSecret is Equal for another Secret.
func (s Secret) EqualSecret(t Secret) (same bool) {
	_ = t.Use(func(b []byte) error { same = s.Equal(b); return nil })
	return same
}

// clone copies the bytes, so that destroying one leaves the other.
func (s Secret) clone() (out Secret) {
	_ = s.Use(func(b []byte) error { out = New(append(make([]byte, 0, len(b)), b...)); return nil })
	return out
}

// processKey keys digests, so that they are useless outside of this process.
var processKey = sync.OnceValue(func() []byte {
	key := make([]byte, 32)
	rand.Read(key) // never fails: it ends the program instead
	return key
})

// digest hides content and length of b.
func digest(b []byte) (sum [32]byte) {
	h := hmac.New(sha256.New, processKey())
	h.Write(b)
	h.Sum(sum[:0])
	return sum
}
