package secrets_test

import (
	"bytes"
	"errors"
	"sync"
	"testing"

	"github.com/llorch/llorch/secrets"
	"pgregory.net/rapid"
)

func content(s secrets.Secret) (out []byte, err error) {
	err = s.Use(func(b []byte) error { out = bytes.Clone(b); return nil })
	return out, err
}

// SCR-3: New wipes its argument, lends exactly the bytes, and empties on Destroy.
func TestSecret(t *testing.T) {
	b := []byte("open sesame")
	s := secrets.New(b)
	if !bytes.Equal(b, make([]byte, len(b))) {
		t.Errorf("the argument still reads %q", b)
	}
	var kept []byte
	if err := s.Use(func(b []byte) error {
		if string(b) != "open sesame" || cap(b) != len(b) {
			t.Errorf("lent %q with cap %d", b, cap(b))
		}
		kept = b
		s.Destroy() // inside Use: does not block, and waits for this call
		if string(b) != "open sesame" {
			t.Errorf("wiped under the user: %q", b)
		}
		if err := s.Use(func([]byte) error { return nil }); !errors.Is(err, secrets.ErrDestroyed) {
			t.Errorf("lent again: %v", err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(kept, make([]byte, len(kept))) || s.Len() != 0 || !s.IsZero() {
		t.Errorf("after Destroy %q, %d bytes", kept, s.Len())
	}
	s.Destroy()
	if err := s.Use(func([]byte) error { return nil }); !errors.Is(err, secrets.ErrDestroyed) {
		t.Error(err)
	}
	failure := errors.New("mine")
	if err := secretOf("x").Use(func([]byte) error { return failure }); !errors.Is(err, failure) {
		t.Errorf("Use swallowed the error: %v", err)
	}
}

func TestZeroSecret(t *testing.T) {
	var zero secrets.Secret
	zero.Destroy()
	if b, err := content(zero); err != nil || len(b) != 0 || !zero.IsZero() || !secrets.New(nil).IsZero() {
		t.Errorf("%q, %v", b, err)
	}
	if zero.Equal(nil) || zero.EqualSecret(zero) || secretOf("a").EqualSecret(zero) || zero.EqualSecret(secretOf("a")) { // SCR-4
		t.Error("a zero Secret equals something")
	}
	gone := secretOf("a")
	gone.Destroy()
	if gone.Equal(nil) || gone.Equal([]byte("a")) || secretOf("a").EqualSecret(gone) {
		t.Error("a destroyed Secret equals something")
	}
}

// SCR-4: equal iff the bytes are.
func TestEqual(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := rapid.SliceOfN(rapid.Byte(), 1, 20).Draw(t, "a")
		b := rapid.OneOf(rapid.Just(a), rapid.SliceOfN(rapid.Byte(), 0, 20)).Draw(t, "b")
		want := bytes.Equal(a, b)
		s, other := secrets.New(bytes.Clone(a)), secrets.New(bytes.Clone(b))
		if s.Equal(b) != want || s.EqualSecret(other) != want {
			t.Fatalf("Equal(%x, %x) = %v", a, b, !want)
		}
	})
}

// The life of a Secret: copies share, Destroy ends all of them, users keep what
// they were lent until they return.
func TestSecretLifeModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const text = "content"
		handles := []secrets.Secret{secretOf(text)}
		dead, depth := false, 0
		var act func(left int)
		act = func(left int) {
			if left == 0 {
				return
			}
			s := rapid.SampledFrom(handles).Draw(t, "handle")
			switch rapid.IntRange(0, 3).Draw(t, "action") {
			case 0:
				handles = append(handles, s)
			case 1:
				s.Destroy()
				dead = true
			case 2:
				if got := s.Len(); dead && got != 0 || !dead && got != len(text) {
					t.Fatalf("Len = %d, dead %v", got, dead)
				}
			case 3:
				lent := false
				wasDead := dead
				err := s.Use(func(b []byte) error {
					lent = true
					depth++
					act(left - 1)
					if string(b) != text {
						t.Fatalf("changed under %d users: %q", depth, b)
					}
					depth--
					return nil
				})
				if lent == wasDead || wasDead != errors.Is(err, secrets.ErrDestroyed) {
					t.Fatalf("lent %v, dead %v, %v", lent, wasDead, err)
				}
				return
			}
			act(left - 1)
		}
		act(12)
	})
}

func TestSecretConcurrentSafe(t *testing.T) {
	s := secretOf("shared")
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for range 50 {
				err := s.Use(func(b []byte) error {
					if string(b) != "shared" {
						t.Errorf("lent %q", b)
					}
					return nil
				})
				if err != nil && !errors.Is(err, secrets.ErrDestroyed) {
					t.Error(err)
				}
				_ = s.Equal([]byte("shared"))
			}
			if i == 7 {
				s.Destroy()
			}
		})
	}
	wg.Wait()
}
