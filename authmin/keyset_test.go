package authmin_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/authmin"
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
	for name, k := range map[string]authmin.Key{
		"32 bytes, 64 of name": {Name: strings.Repeat("a", 64), Token: parsed(t, "abcdefghijklmnopqrstuvwxyz012345"), Tags: []string{"tenant.acme", "user:eva@x"}},
		"8 characters":         {Name: "n", Token: parsed(t, "abcdefghhgfedcbaabcdefghabcdhgfe")},
		"block above a half":   {Name: "n", Token: parsed(t, "abcdefghijklmnopqrstabcdefghijkl")},
		"8192 bytes":           {Name: "n", Token: parsed(t, "abcdefgh"+strings.Repeat("i", 8184))},
		"most tags":            {Name: "n", Token: good, Tags: append(slices.Repeat([]string{"t"}, 31), strings.Repeat("A", 128))},
	} {
		if _, err := authmin.NewKeySet(k); err != nil {
			t.Errorf("%s: NewKeySet = %v", name, err)
		}
	}
}

// AUTH-10, AUTH-11
func TestVerify(t *testing.T) {
	a, b, tags := authmin.Generate("a"), authmin.Generate("b"), []string{"role.admin"}
	set, err := authmin.NewKeySet(authmin.Key{Name: "web", Token: b}, authmin.Key{Name: "laptop", Digest: sha256.Sum256([]byte(a.Reveal())), Tags: tags})
	if err != nil {
		t.Fatal(err)
	}
	tags[0] = "changed"
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

// AUTH-10: generations of one holder side by side, listed in the order of their
// beginning.
func TestKeysOrder(t *testing.T) {
	now := time.Now()
	first, second, third := authmin.Generate("a"), authmin.Generate("a"), authmin.Generate("a")
	set := keySet(t, authmin.Key{Name: "b", Token: authmin.Generate("b")}, authmin.Key{Name: "a", Token: third, NotBefore: now.Add(time.Hour)},
		authmin.Key{Name: "a", Token: second, NotBefore: now.Add(-time.Hour)}, authmin.Key{Name: "a", Token: first})
	var got []string
	for info := range set.Keys() {
		got = append(got, info.FP6)
	}
	if want := []string{authmin.FP6(first.Reveal()), authmin.FP6(second.Reveal()), authmin.FP6(third.Reveal())}; len(got) != 4 || !slices.Equal(got[:3], want) {
		t.Errorf("Keys = %v, want first %v", got, want)
	}
	for range set.Keys() {
		break // a caller may stop
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
	if err := (*authmin.KeySet)(nil).Replace(authmin.Key{Name: "a", Token: authmin.Generate("a")}); !errors.Is(err, authmin.ErrNoKeys) {
		t.Errorf("Replace of a nil set = %v", err)
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

// AUTH-12: Verify and Replace from many sides; a key in every set is never
// missed, and nobody waits for a writer.
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

// AUTH-12: times are wall-clock times, which go on while a machine sleeps.
func TestKeyTimesAreWallClock(t *testing.T) {
	now := time.Now() // has a monotonic part
	set := keySet(t, authmin.Key{Name: "a", Token: authmin.Generate("a"), NotBefore: now, NotAfter: now.Add(time.Hour)})
	for range 2 {
		for info := range set.Keys() {
			if info.NotBefore != info.NotBefore.Round(0) || info.NotAfter != info.NotAfter.Round(0) {
				t.Errorf("%+v has a monotonic part", info)
			}
		}
		if old, _, err := set.Rotate("a", authmin.Generate("b"), time.Minute); err != nil || old.NotAfter != old.NotAfter.Round(0) {
			t.Fatal(old, err)
		}
	}
}

// AUTH-12: the two bounds to the nanosecond, and times beyond what fits into
// 64 bits of nanoseconds.
func TestKeyBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		far := time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)
		for name, c := range map[string]struct {
			from, until time.Time
			live        bool
		}{
			"begins now":         {now, time.Time{}, true},
			"begins soon":        {now.Add(1), time.Time{}, false},
			"ends now":           {time.Time{}, now, false},
			"ends soon":          {time.Time{}, now.Add(1), true},
			"ends in 9999":       {time.Time{}, far, true},
			"begins in 9999":     {far, time.Time{}, false},
			"ended in 1600":      {time.Time{}, time.Date(1600, 1, 1, 0, 0, 0, 0, time.UTC), false},
			"began in 1600":      {time.Date(1600, 1, 1, 0, 0, 0, 0, time.UTC), far, true},
			"1600 to 1601":       {time.Date(1600, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(1601, 1, 1, 0, 0, 0, 0, time.UTC), false},
			"without bounds":     {time.Time{}, time.Time{}, true},
			"around the present": {now.Add(-1), now.Add(1), true},
		} {
			tok := authmin.Generate("a")
			set := keySet(t, authmin.Key{Name: "a", Token: tok, NotBefore: c.from, NotAfter: c.until})
			if _, err := set.Verify(t.Context(), tok); (err == nil) != c.live || !c.live && !errors.Is(err, authmin.ErrExpired) {
				t.Errorf("%s: %v, want live %v", name, err, c.live)
			}
		}
	})
}
