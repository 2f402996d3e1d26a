package authmin_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/authmin"
)

// AUTH-13: what becomes of the keys of one holder.
func TestRotate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, c, other := authmin.Generate("a"), authmin.Generate("b"), authmin.Generate("c"), authmin.Generate("o")
		set := keySet(t, authmin.Key{Name: "web", Token: a, Tags: []string{"tenant.acme"}}, authmin.Key{Name: "other", Token: other})
		live := func(tok authmin.Token) bool { _, err := set.Verify(t.Context(), tok); return err == nil }
		rotate := func(next authmin.Token, overlap time.Duration) (old, added authmin.KeyInfo) {
			t.Helper()
			old, added, err := set.Rotate("web", next, overlap)
			if err != nil {
				t.Fatal(err)
			}
			return old, added
		}
		start := time.Now()
		old, added := rotate(b, time.Hour)
		if old != (authmin.KeyInfo{Name: "web", FP6: authmin.FP6(a.Reveal()), NotAfter: start.Add(time.Hour).Round(0)}) || added != (authmin.KeyInfo{Name: "web", FP6: authmin.FP6(b.Reveal())}) {
			t.Errorf("Rotate = %+v, %+v", old, added)
		}
		if p, err := set.Verify(t.Context(), b); err != nil || !p.HasTag("tenant.acme") || !live(a) || !live(other) {
			t.Errorf("within the overlap both are live, the next with the tags: %+v, %v", p, err)
		}
		time.Sleep(30 * time.Minute)
		// a second rotation within the first overlap must not prolong it
		if old, _ := rotate(c, 24*time.Hour); old.FP6 != authmin.FP6(b.Reveal()) || set.Len() != 4 {
			t.Errorf("the second old key is %+v of %d", old, set.Len())
		}
		time.Sleep(30*time.Minute - time.Nanosecond)
		if !live(a) {
			t.Error("the first key ends too early")
		}
		time.Sleep(time.Nanosecond)
		if live(a) || !live(b) || !live(c) {
			t.Error("the first key lives longer than its overlap, or another ended with it")
		}
		time.Sleep(time.Nanosecond)
		if rotate(authmin.Generate("d"), 0); live(b) || live(c) || !live(other) {
			t.Error("an overlap of 0 does not revoke now, or revokes another holder")
		}
		for info := range set.Keys() {
			if info.FP6 == authmin.FP6(a.Reveal()) {
				t.Error("an expired key outlives the next change")
			}
		}
		// all keys of the holder expired: a next one is a way back
		time.Sleep(time.Hour)
		d := authmin.Generate("d")
		if rotate(d, 0); !live(d) {
			t.Error("the next key is not live")
		}
		// one that was staged for later is revoked like the others
		staged := authmin.Key{Name: "web", Token: a, NotBefore: time.Now().Add(time.Hour)}
		if err := set.Replace(staged); err != nil {
			t.Fatal(err)
		}
		rotate(b, time.Minute)
		time.Sleep(2 * time.Hour)
		if live(a) || !live(b) {
			t.Error("a staged key survives a rotation")
		}
	})
}

// AUTH-13: what Rotate refuses changes nothing and says nothing of a token.
func TestRotateRefuses(t *testing.T) {
	a, next := authmin.Generate("a"), authmin.Generate("n")
	const thirtyDays = 30 * 24 * time.Hour
	full := make([]authmin.Key, 1024)
	for i := range full {
		full[i] = authmin.Key{Name: "web", Token: authmin.Generate("f")}
	}
	small, big := keySet(t, authmin.Key{Name: "web", Token: a}), keySet(t, full...)
	for name, c := range map[string]struct {
		set     *authmin.KeySet
		holder  string
		next    authmin.Token
		overlap time.Duration
		is      error
	}{
		"negative overlap": {small, "web", next, -1, nil},
		"too long":         {small, "web", next, thirtyDays + 1, nil},
		"unknown name":     {small, "wob", next, 0, nil},
		"weak":             {small, "web", parsed(t, "short"), 0, authmin.ErrWeakToken},
		"none":             {small, "web", authmin.Token{}, 0, nil},
		"the same token":   {small, "web", a, 0, nil},
		"full":             {big, "web", next, 0, nil},
		"nil set":          {nil, "web", next, 0, nil},
	} {
		before := c.set.Len()
		old, added, err := c.set.Rotate(c.holder, c.next, c.overlap)
		if err == nil || c.is != nil && !errors.Is(err, c.is) || old != (authmin.KeyInfo{}) || added != (authmin.KeyInfo{}) || c.set.Len() != before {
			t.Errorf("%s: Rotate = %+v, %+v, %v", name, old, added, err)
		} else if s := err.Error(); strings.Contains(s, a.Reveal()) || strings.Contains(s, next.Reveal()) || strings.Contains(s, "short\"") {
			t.Errorf("%s: %v shows a token", name, err)
		}
	}
	if _, err := small.Verify(t.Context(), a); err != nil {
		t.Errorf("a refused rotation revokes the key: %v", err)
	}
	if _, _, err := small.Rotate("web", next, thirtyDays); err != nil {
		t.Errorf("Rotate with 30 days = %v", err)
	}
}

// AUTH-13: changes from many sides do not lose one another.
func TestRotateConcurrentSafe(t *testing.T) {
	const rounds, holders = 40, 8
	keys := make([]authmin.Key, 0, 400)
	for i := range cap(keys) {
		keys = append(keys, authmin.Key{Name: fmt.Sprintf("h%d", i%holders), Token: authmin.Generate("k")})
	}
	set := keySet(t, keys...)
	for range rounds {
		var wg sync.WaitGroup
		next := make([]authmin.Token, holders)
		for i := range next {
			next[i] = authmin.Generate("n")
			wg.Go(func() {
				if _, _, err := set.Rotate(fmt.Sprintf("h%d", i), next[i], 0); err != nil {
					t.Errorf("Rotate = %v", err)
				}
			})
		}
		wg.Wait()
		for i, tok := range next {
			if _, err := set.Verify(t.Context(), tok); err != nil {
				t.Fatalf("the rotation of h%d was lost: %v", i, err)
			}
		}
		// a whole new set beside a rotation: whichever comes last, the set's
		// other keys are the new ones
		keep := authmin.Key{Name: "keep", Token: authmin.Generate("k")}
		wg.Go(func() { _, _, _ = set.Rotate("h0", authmin.Generate("n"), 0) })
		wg.Go(func() {
			if err := set.Replace(append(keys[:len(keys):len(keys)], keep)...); err != nil {
				t.Errorf("Replace = %v", err)
			}
		})
		wg.Wait()
		if _, err := set.Verify(t.Context(), keep.Token); err != nil {
			t.Fatalf("a replacement was lost: %v", err)
		}
	}
}
