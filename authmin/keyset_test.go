package authmin_test

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/authmin"
	"pgregory.net/rapid"
)

// AUTH-9, AUTH-10, AUTH-12, AUTH-15
func TestNewKeySetRefuses(t *testing.T) {
	good := authmin.Generate("t")
	now := time.Now()
	many := make([]authmin.Key, 1025)
	for i := range many {
		many[i] = authmin.Key{Name: "n", Digest: sha256.Sum256([]byte{byte(i), byte(i >> 8)})}
	}
	for name, c := range map[string]struct {
		keys []authmin.Key
		is   error  // nil = any error
		says string // "" = anything
	}{
		"none":              {nil, authmin.ErrNoKeys, ""},
		"too many":          {many, nil, "1025 keys"},
		"short":             {[]authmin.Key{{Name: "n", Token: parsed(t, "abcdefghijklmnopqrstuvwxyz01234")}}, authmin.ErrWeakToken, "key 0 (n)"},
		"few characters":    {[]authmin.Key{{Name: "n", Token: parsed(t, "abcdefgabcdefggfedcbaabcdefgabcd")}}, authmin.ErrWeakToken, "distinct"},
		"repetition":        {[]authmin.Key{{Name: "n", Token: parsed(t, strings.Repeat("abcdefgh12345678", 2))}}, authmin.ErrWeakToken, "repeated"},
		"cut repetition":    {[]authmin.Key{{Name: "n", Token: parsed(t, strings.Repeat("abcdefgh12345678", 3)[:40])}}, authmin.ErrWeakToken, "repeated"},
		"empty digest":      {[]authmin.Key{{Name: "n", Digest: sha256.Sum256(nil)}}, authmin.ErrWeakToken, ""},
		"neither":           {[]authmin.Key{{Name: "n"}}, nil, "exactly one"},
		"both":              {[]authmin.Key{{Name: "n", Token: good, Digest: sha256.Sum256([]byte("x"))}}, nil, "exactly one"},
		"no name":           {[]authmin.Key{{Token: good}}, nil, "name"},
		"bad name":          {[]authmin.Key{{Name: "a b", Token: good}}, nil, "name"},
		"long name":         {[]authmin.Key{{Name: strings.Repeat("a", 65), Token: good}}, nil, "name"},
		"same token":        {[]authmin.Key{{Name: "a", Token: good}, {Name: "b", Token: good}}, nil, "same token as key 0 (a)"},
		"same as digest":    {[]authmin.Key{{Name: "a", Token: good}, {Name: "b", Digest: sha256.Sum256([]byte(good.Reveal()))}}, nil, "same token"},
		"never valid":       {[]authmin.Key{{Name: "a", Token: good, NotBefore: now, NotAfter: now}}, nil, "never valid"},
		"33 tags":           {[]authmin.Key{{Name: "a", Token: good, Tags: slices.Repeat([]string{"t"}, 33)}}, nil, "tags"},
		"bad tag":           {[]authmin.Key{{Name: "a", Token: good, Tags: []string{"a b"}}}, nil, "tag"},
		"all faults joined": {[]authmin.Key{{Name: "a b", Token: good}, {Name: "c"}}, nil, "key 1 (c) needs"},
	} {
		set, err := authmin.NewKeySet(c.keys...)
		if err == nil || set != nil || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: NewKeySet = %v", name, err)
			continue
		}
		if strings.Contains(err.Error(), good.Reveal()) {
			t.Errorf("%s: the error shows the token", name)
		}
	}
	if _, err := authmin.NewKeySet(many[:1024]...); err != nil {
		t.Errorf("1024 keys = %v", err)
	}
	if _, err := authmin.NewKeySet(authmin.Key{Name: strings.Repeat("a", 64), Token: parsed(t, "abcdefghijklmnopqrstuvwxyz012345"), Tags: []string{"tenant.acme", "user:eva@x"}}); err != nil {
		t.Errorf("32 bytes = %v", err)
	}
}

// AUTH-11
func TestVerify(t *testing.T) {
	a, b := authmin.Generate("a"), authmin.Generate("b")
	set, err := authmin.NewKeySet(authmin.Key{Name: "web", Token: b}, authmin.Key{Name: "laptop", Digest: sha256.Sum256([]byte(a.Reveal())), Tags: []string{"role.admin"}})
	if err != nil {
		t.Fatal(err)
	}
	p, err := set.Verify(t.Context(), a)
	if err != nil || p.Name != "laptop" || p.FP6 != authmin.FP6(a.Reveal()) || !p.HasTag("role.admin") || p.HasTag("role") || p.String() != "token:"+p.FP6 || p.Local {
		t.Errorf("Verify = %+v, %v", p, err)
	}
	p.Tags[0] = "changed"
	if p, _ := set.Verify(t.Context(), a); !p.HasTag("role.admin") {
		t.Error("a caller can change the tags of a key")
	}
	for _, wrong := range []authmin.Token{{}, authmin.Generate("a"), parsed(t, a.Reveal()[:53])} {
		if p, err := set.Verify(t.Context(), wrong); !errors.Is(err, authmin.ErrRejected) || p.Name != "" {
			t.Errorf("Verify(wrong) = %+v, %v", p, err)
		}
	}
	names := []string{}
	for info := range set.Keys() {
		names = append(names, info.Name+" "+info.FP6)
	}
	if want := []string{"laptop " + authmin.FP6(a.Reveal()), "web " + authmin.FP6(b.Reveal())}; !slices.Equal(names, want) || set.Len() != 2 {
		t.Errorf("Keys = %v, want %v", names, want)
	}
	if got := (authmin.Principal{}).String() + " " + (authmin.Principal{Local: true}).String(); got != "anonymous localhost" {
		t.Errorf("String = %s", got)
	}
	if _, ok := authmin.PrincipalFrom(t.Context()); ok {
		t.Error("PrincipalFrom finds one in an empty context")
	}
}

func TestNilKeySet(t *testing.T) {
	for _, set := range []*authmin.KeySet{nil, new(authmin.KeySet)} {
		if _, err := set.Verify(context.Background(), authmin.Generate("a")); !errors.Is(err, authmin.ErrRejected) || set.Len() != 0 {
			t.Errorf("a set without keys verifies: %v", err)
		}
		for range set.Keys() {
			t.Error("a set without keys lists one")
		}
	}
}

// TestVerifyTouchesEveryKey (AUTH-11): wherever the match is, all are compared.
func TestVerifyTouchesEveryKey(t *testing.T) {
	digests := make([][sha256.Size]byte, 1000)
	for i := range digests {
		digests[i] = sha256.Sum256(fmt.Append(nil, i))
	}
	for _, at := range []int{-1, 0, 1, 500, 999} {
		want := sha256.Sum256(fmt.Append(nil, at))
		found, compared := authmin.Scan(&want, digests)
		if found != at || compared != len(digests) {
			t.Errorf("Scan for key %d = %d after %d comparisons, want all %d", at, found, compared, len(digests))
		}
	}
}

// TestKeySetModel: replace and time against a list. A live key always
// verifies, an expired or replaced one never, the set is never empty.
func TestKeySetModel(t *testing.T) {
	pool := make([]authmin.Token, 6)
	for i := range pool {
		pool[i] = authmin.Generate("m")
	}
	rapid.Check(t, func(rt *rapid.T) {
		synctest.Test(t, func(*testing.T) {
			draw := func() []authmin.Key {
				var keys []authmin.Key
				for i := range pool {
					if rapid.Bool().Draw(rt, "use") {
						k := authmin.Key{Name: fmt.Sprintf("k%d", i%3), Token: pool[i]}
						if rapid.Bool().Draw(rt, "from") {
							k.NotBefore = time.Now().Add(time.Duration(rapid.IntRange(-3, 3).Draw(rt, "h")) * time.Hour)
						}
						if rapid.Bool().Draw(rt, "until") {
							k.NotAfter = time.Now().Add(time.Duration(rapid.IntRange(-3, 6).Draw(rt, "h")) * time.Hour)
						}
						keys = append(keys, k)
					}
				}
				return keys
			}
			valid := func(keys []authmin.Key) bool {
				return len(keys) > 0 && !slices.ContainsFunc(keys, func(k authmin.Key) bool {
					return !k.NotBefore.IsZero() && !k.NotAfter.IsZero() && !k.NotBefore.Before(k.NotAfter)
				})
			}
			model := []authmin.Key{{Name: "first", Token: pool[0]}}
			set, err := authmin.NewKeySet(model...)
			if err != nil {
				rt.Fatal(err)
			}
			for range 12 {
				if rapid.Bool().Draw(rt, "replace") {
					next := draw()
					if err := set.Replace(next...); (err == nil) != valid(next) {
						rt.Fatalf("Replace(%d keys) = %v", len(next), err)
					} else if err == nil {
						model = next
					}
				} else {
					time.Sleep(time.Duration(rapid.IntRange(0, 120).Draw(rt, "minutes")) * time.Minute)
				}
				if set.Len() != len(model) || set.Len() == 0 {
					rt.Fatalf("Len = %d, want %d", set.Len(), len(model))
				}
				now := time.Now()
				for _, tok := range pool {
					i := slices.IndexFunc(model, func(k authmin.Key) bool { return k.Token.Equal(tok) })
					live := i >= 0 && !now.Before(model[i].NotBefore) && (model[i].NotAfter.IsZero() || now.Before(model[i].NotAfter))
					p, err := set.Verify(t.Context(), tok)
					if (err == nil) != live || live && p.Name != model[i].Name || errors.Is(err, authmin.ErrExpired) != (i >= 0 && !live) {
						rt.Fatalf("Verify = %+v, %v, want live %v of %d", p, err, live, i)
					}
				}
			}
		})
	})
}

func TestKeySetConcurrentSafe(t *testing.T) {
	always, other := authmin.Generate("a"), authmin.Generate("b")
	keys := []authmin.Key{{Name: "always", Token: always}, {Name: "other", Token: other}}
	set, err := authmin.NewKeySet(keys...)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 100 {
				if err := set.Replace(keys[:1+(i+j)%2]...); err != nil {
					t.Errorf("Replace = %v", err)
				}
				if _, err := set.Verify(t.Context(), always); err != nil {
					t.Errorf("Verify of a key in every set = %v", err)
				}
				for range set.Keys() {
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkVerify(b *testing.B) {
	for _, n := range []int{1, 1000} {
		keys := make([]authmin.Key, n)
		digests := make([][sha256.Size]byte, n)
		for i := range keys {
			tok := authmin.Generate("b")
			keys[i] = authmin.Key{Name: fmt.Sprintf("k%04d", i), Token: tok}
			digests[i] = sha256.Sum256([]byte(tok.Reveal()))
		}
		set, err := authmin.NewKeySet(keys...)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("keys=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := set.Verify(b.Context(), keys[n-1].Token); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("keys=%d-reference", n), func(b *testing.B) {
			raw := []byte(keys[n-1].Token.Reveal())
			for b.Loop() {
				sum, hits := sha256.Sum256(raw), 0
				for i := range digests {
					hits += subtle.ConstantTimeCompare(sum[:], digests[i][:])
				}
				if hits != 1 {
					b.Fatal("no match")
				}
			}
		})
	}
}
