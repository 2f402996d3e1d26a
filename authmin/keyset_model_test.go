package authmin_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/authmin"
	"pgregory.net/rapid"
)

// model is a set of keys as a plain list.
type model struct {
	rt   *rapid.T
	ctx  context.Context // of the bubble; the rapid one is made outside of it
	set  *authmin.KeySet
	keys []authmin.Key
	pool []authmin.Token
}

// TestKeySetModel (AUTH-11, AUTH-12, AUTH-13, AUTH-15): add, rotate, replace,
// time and verify, in any order. The set is never empty, a revoked or expired
// key never verifies, a live one always does.
func TestKeySetModel(t *testing.T) {
	pool := make([]authmin.Token, 7)
	for i := range pool {
		pool[i] = authmin.Generate("m")
	}
	rapid.Check(t, func(rt *rapid.T) {
		synctest.Test(t, func(t *testing.T) {
			m := &model{rt: rt, ctx: t.Context(), pool: pool, keys: []authmin.Key{{Name: "k0", Token: pool[0]}}}
			var err error
			if m.set, err = authmin.NewKeySet(m.keys...); err != nil {
				rt.Fatal(err)
			}
			actions := map[string]func(){"add": m.add, "rotate": m.rotate, "replace": m.replace, "time": m.time}
			for range 15 {
				name := rapid.SampledFrom([]string{"add", "rotate", "rotate", "replace", "time", "time"}).Draw(rt, "action")
				actions[name]()
				m.verify()
			}
		})
	})
}

// key draws one that may be valid now, later, no more, or never.
func (m *model) key(i int) authmin.Key {
	k := authmin.Key{Name: fmt.Sprintf("k%d", i%3), Token: m.pool[i]}
	hours := func() time.Time {
		return time.Now().Add(time.Duration(rapid.IntRange(-3, 6).Draw(m.rt, "hours")) * time.Hour)
	}
	if rapid.Bool().Draw(m.rt, "from") {
		k.NotBefore = hours()
	}
	if rapid.Bool().Draw(m.rt, "until") {
		k.NotAfter = hours()
	}
	return k
}

func never(k authmin.Key) bool {
	return !k.NotBefore.IsZero() && !k.NotAfter.IsZero() && !k.NotBefore.Before(k.NotAfter)
}

// swap offers the set a whole list.
func (m *model) swap(keys []authmin.Key) {
	valid := len(keys) > 0 && !slices.ContainsFunc(keys, never)
	err := m.set.Replace(keys...)
	if (err == nil) != valid || len(keys) == 0 && !errors.Is(err, authmin.ErrNoKeys) {
		m.rt.Fatalf("Replace(%d keys) = %v", len(keys), err)
	}
	if valid {
		m.keys = keys
	}
}

func (m *model) replace() {
	var keys []authmin.Key
	for i := range m.pool {
		if rapid.IntRange(0, 2).Draw(m.rt, "use") == 0 {
			keys = append(keys, m.key(i))
		}
	}
	m.swap(keys)
}

func (m *model) add() {
	i := rapid.IntRange(0, len(m.pool)-1).Draw(m.rt, "token")
	if m.find(m.pool[i]) < 0 {
		m.swap(append(slices.Clone(m.keys), m.key(i)))
	}
}

func (m *model) time() {
	time.Sleep(time.Duration(rapid.IntRange(0, 120).Draw(m.rt, "minutes")) * time.Minute)
}

func (m *model) rotate() {
	name := fmt.Sprintf("k%d", rapid.IntRange(0, 3).Draw(m.rt, "name")) // k3 is nobody
	next := m.pool[rapid.IntRange(0, len(m.pool)-1).Draw(m.rt, "next")]
	overlap := time.Duration(rapid.IntRange(-1, 3).Draw(m.rt, "overlap")) * time.Hour
	now := time.Now()
	known := slices.ContainsFunc(m.keys, func(k authmin.Key) bool { return k.Name == name })
	want := known && m.find(next) < 0 && overlap >= 0
	old, added, err := m.set.Rotate(name, next, overlap)
	if (err == nil) != want {
		m.rt.Fatalf("Rotate(%s, %v) = %v, want success %v", name, overlap, err, want)
	}
	if !want {
		return
	}
	longest := int64(math.MinInt64)
	for i := range m.keys {
		k := &m.keys[i]
		if k.Name != name {
			continue
		}
		until := int64(math.MaxInt64)
		if !k.NotAfter.IsZero() {
			until = k.NotAfter.UnixNano()
		}
		longest = max(longest, until)
		if end := now.Add(overlap); until > end.UnixNano() {
			k.NotAfter = end
		}
	}
	m.keys = slices.DeleteFunc(slices.Clone(m.keys), func(k authmin.Key) bool { return !k.NotAfter.IsZero() && k.NotAfter.Before(now) })
	m.keys = append(m.keys, authmin.Key{Name: name, Token: next})
	wantEnd := now.Add(overlap)
	if longest < wantEnd.UnixNano() {
		wantEnd = time.Unix(0, longest)
	}
	if old.Name != name || !old.NotAfter.Equal(wantEnd) || added.Name != name || added.FP6 != authmin.FP6(next.Reveal()) || !added.NotAfter.IsZero() || !added.NotBefore.IsZero() {
		m.rt.Fatalf("Rotate = %+v, %+v, want the old one to end at %v", old, added, wantEnd)
	}
}

func (m *model) find(tok authmin.Token) int {
	return slices.IndexFunc(m.keys, func(k authmin.Key) bool { return k.Token.Equal(tok) })
}

// verify compares what the set says of every token with the list.
func (m *model) verify() {
	if m.set.Len() != len(m.keys) || m.set.Len() == 0 {
		m.rt.Fatalf("Len = %d, want %d", m.set.Len(), len(m.keys))
	}
	now := time.Now()
	for _, tok := range m.pool {
		i := m.find(tok)
		live := i >= 0 && !now.Before(m.keys[i].NotBefore) && (m.keys[i].NotAfter.IsZero() || now.Before(m.keys[i].NotAfter))
		p, err := m.set.Verify(m.ctx, tok)
		if (err == nil) != live || live && p.Name != m.keys[i].Name || errors.Is(err, authmin.ErrExpired) != (i >= 0 && !live) || !live && !errors.Is(err, authmin.ErrRejected) {
			m.rt.Fatalf("Verify = %+v, %v, want live %v of %d", p, err, live, i)
		}
	}
}
