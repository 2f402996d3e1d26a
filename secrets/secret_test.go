package secrets_test

import (
	"bytes"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

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

// SCR-3, SCR-4: neither a zero nor a destroyed Secret equals anything.
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

// SCR-3: the life of a Secret among users that come and go on goroutines of their
// own. 1 All copies share one life. 2 Nobody is lent anything after Destroy. 3 Who
// was lent the bytes sees them unchanged until it returns, whatever happens. 4 When
// the last one has returned after Destroy the bytes are wiped. 5 Destroy never
// blocks.
func TestSecretLifeModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) {
			const text = "content"
			handles := []secrets.Secret{secretOf(text)}
			dead := false
			var leave []chan struct{} // one per user
			lent := make(chan []byte, 1)
			refused := make(chan error, 1)
			var memory []byte // of the Secret
			check := func() {
				want := text
				if dead && len(leave) == 0 {
					want = string(make([]byte, len(text)))
				}
				if memory != nil && string(memory) != want {
					t.Fatalf("%d users, dead %v: the bytes read %q", len(leave), dead, memory)
				}
			}
			use := func(s secrets.Secret) {
				done := make(chan struct{})
				go func() {
					err := s.Use(func(b []byte) error {
						lent <- b
						<-done
						return nil
					})
					if err != nil {
						refused <- err
					}
				}()
				synctest.Wait()
				select {
				case memory = <-lent:
					leave = append(leave, done)
					if dead {
						t.Fatal("lent after Destroy")
					}
				case err := <-refused:
					if !dead || !errors.Is(err, secrets.ErrDestroyed) {
						t.Fatalf("refused, dead %v: %v", dead, err)
					}
				}
			}
			defer func() {
				for _, done := range leave {
					close(done)
				}
			}()
			t.Repeat(map[string]func(*rapid.T){
				"": func(*rapid.T) { check() },
				"copy": func(t *rapid.T) {
					handles = append(handles, rapid.SampledFrom(handles).Draw(t, "handle"))
				},
				"use": func(t *rapid.T) { use(rapid.SampledFrom(handles).Draw(t, "handle")) },
				"leave": func(t *rapid.T) {
					if len(leave) == 0 {
						t.Skip("nobody is there")
					}
					i := rapid.IntRange(0, len(leave)-1).Draw(t, "user")
					close(leave[i])
					leave = slices.Delete(leave, i, i+1)
					synctest.Wait()
				},
				"destroy": func(t *rapid.T) {
					if rapid.IntRange(0, 3).Draw(t, "really") != 0 {
						t.Skip("let it live")
					}
					rapid.SampledFrom(handles).Draw(t, "handle").Destroy()
					dead = true
				},
				"look": func(t *rapid.T) {
					s := rapid.SampledFrom(handles).Draw(t, "handle")
					if got := s.Len(); dead && got != 0 || !dead && got != len(text) {
						t.Fatalf("Len = %d, dead %v", got, dead)
					}
					if s.Equal([]byte(text)) == dead || s.EqualSecret(secretOf(text)) == dead {
						t.Fatalf("dead %v, and equal", dead)
					}
				},
			})
		})
	})
}

// SCR-3: users, comparisons and the end at once.
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
