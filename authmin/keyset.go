package authmin

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"iter"
	"math"
	"math/bits"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// maxOverlap bounds how long a replaced key may live on: one that is still
// around after a month has been forgotten.
const maxOverlap = 30 * 24 * time.Hour

// Verifier decides about a presented token. An error that wraps ErrRejected
// means "wrong token"; any other error means that it cannot decide now, which
// a [Gate] answers with 503. It must be safe for concurrent use.
type Verifier interface {
	Verify(ctx context.Context, t Token) (Principal, error)
}

// KeySet is a Verifier over 1..1024 keys. It holds digests, never tokens, is
// never empty, and is safe for concurrent use; Verify takes no lock.
type KeySet struct {
	mu   sync.Mutex // held by whoever changes keys, so that no change is lost
	keys atomic.Pointer[keyTable]
}

var _ Verifier = (*KeySet)(nil)

// keyTable is immutable once it is published. Its slices have the same order:
// by name, then NotBefore.
type keyTable struct {
	digests [][sha256.Size]byte // side by side, so that the scan is one walk
	from    []int64             // validity is from <= now < until, in Unix nanoseconds
	until   []int64
	bounded bool     // whether any key has a bound: without one nobody needs the clock
	answers []answer // for a token that is no key, then for each key when it is not valid and when it is
	infos   []KeyInfo
}

// answer is what Verify returns. It fills two cache lines of 64 bytes, so that
// it takes the same time to load whichever it is.
type answer struct {
	who Principal
	err error
	_   [24]byte // beside 104 on 64-bit machines
}

// NewKeySet makes a set and reports the faults of all keys at once. No keys at
// all is ErrNoKeys: an emptied secret file must neither open the gate nor lock
// it.
func NewKeySet(keys ...Key) (*KeySet, error) {
	s := new(KeySet)
	if err := s.Replace(keys...); err != nil {
		return nil, err
	}
	return s, nil
}

// Replace swaps the whole set at once. On error the old set stays. Requests in
// flight finish with the set that they started with.
func (s *KeySet) Replace(keys ...Key) error {
	checked, err := checkKeys(keys)
	if err != nil {
		return err
	}
	if s == nil {
		return fmt.Errorf("%w: the set is nil", ErrNoKeys)
	}
	table := newKeyTable(checked)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys.Store(table)
	return nil
}

// Rotate gives the holder of that name a next token, valid at once and without
// end, with the tags of the key that it follows. The holder's older keys live
// on for overlap, 0 to 30 days, or to their own NotAfter if that is sooner; 0
// revokes them now. Keys whose time is over leave the set. old is the older key
// that would have lived longest, with its new NotAfter; both results are made
// for the caller's log. It is an error, and changes nothing, if no key has that
// name, if next is weak (ErrWeakToken), or if it is a key of the set already.
func (s *KeySet) Rotate(name string, next Token, overlap time.Duration) (old, added KeyInfo, err error) {
	if overlap < 0 || overlap > maxOverlap {
		return KeyInfo{}, KeyInfo{}, errors.New("authmin: rotate: the overlap is not 0 to 30 days")
	}
	if s == nil {
		s = new(KeySet) // without keys, so without that name
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	table, now := s.table(), time.Now().Round(0)
	keys, last := table.keys(), -1
	for i, k := range keys {
		if k.Name == name && (last < 0 || table.until[i] >= table.until[last]) {
			last = i
		}
	}
	if last < 0 {
		return KeyInfo{}, KeyInfo{}, errors.New("authmin: rotate: no key has that name")
	}
	fresh := Key{Name: name, Token: next, Tags: keys[last].Tags}
	if err := checkKey("the next key of "+name, &fresh); err != nil {
		return KeyInfo{}, KeyInfo{}, err
	}
	fresh.Digest = next.digest()
	if known, _ := scan(&fresh.Digest, table.digests); known >= 0 {
		return KeyInfo{}, KeyInfo{}, errors.New("authmin: rotate: the next token is that of a key already")
	}
	end := now.Add(overlap)
	for i := range keys {
		if k := &keys[i]; k.Name == name && table.until[i] > end.UnixNano() {
			k.NotAfter = end
		}
	}
	old = keys[last].info()
	kept := append(slices.DeleteFunc(keys, func(k Key) bool { return !k.NotAfter.IsZero() && k.NotAfter.Before(now) }), fresh)
	if len(kept) > maxKeys {
		return KeyInfo{}, KeyInfo{}, tooManyKeys(len(kept))
	}
	s.keys.Store(newKeyTable(kept))
	return old, fresh.info(), nil
}

// Len returns the number of keys, 0 for a nil set.
func (s *KeySet) Len() int { return len(s.table().infos) }

// Keys lists the keys by name, then NotBefore.
func (s *KeySet) Keys() iter.Seq[KeyInfo] { return slices.Values(s.table().infos) }

// table returns the published table, one without keys for a nil set.
func (s *KeySet) table() *keyTable {
	if s != nil {
		if table := s.keys.Load(); table != nil {
			return table
		}
	}
	return new(keyTable)
}

// Verify returns the principal of a live key, ErrRejected, or ErrExpired for a
// key outside its time of validity (wall clock). It compares the digest of t
// with that of every key, the invalid ones included, before it looks at any
// outcome. ctx is not used: nothing here waits.
func (s *KeySet) Verify(_ context.Context, t Token) (Principal, error) {
	table := s.table()
	if len(table.digests) == 0 {
		return Principal{}, ErrRejected
	}
	// From here on nothing branches on a secret, and all outcomes load the same
	// amount, so that they show in what is returned and not in the time.
	digest := t.digest()
	found, _ := scan(&digest, table.digests)
	known := 1 - int(uint(found)>>(bits.UintSize-1))
	at := subtle.ConstantTimeSelect(known, found, 0)
	now := int64(0)
	if table.bounded {
		now = time.Now().UnixNano()
	}
	live := less(now, table.until[at]) &^ less(now, table.from[at])
	a := &table.answers[known*(1+2*at+live)]
	p := a.who
	p.Tags = slices.Clone(p.Tags)
	return p, a.err
}

// scan returns the index of want, -1 if it is absent, and the number of
// comparisons, which is always that of the digests.
func scan(want *[sha256.Size]byte, digests [][sha256.Size]byte) (found, compared int) {
	found = -1
	for i := range digests {
		found = subtle.ConstantTimeSelect(equalDigest(want, &digests[i]), i, found)
		compared++
	}
	return found, compared
}

// less returns 1 if a < b, else 0, without a branch.
func less(a, b int64) int {
	const sign = 1 << 63
	_, borrow := bits.Sub64(uint64(a)^sign, uint64(b)^sign, 0)
	return int(borrow)
}

// newKeyTable makes a table of keys that have been checked and have digests.
func newKeyTable(keys []Key) *keyTable {
	slices.SortStableFunc(keys, func(a, b Key) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		return a.NotBefore.Compare(b.NotBefore)
	})
	table := &keyTable{answers: []answer{{err: ErrRejected}}}
	for i := range keys {
		k := &keys[i]
		info := k.info()
		table.digests = append(table.digests, k.Digest)
		table.from = append(table.from, unixNano(k.NotBefore, math.MinInt64))
		table.until = append(table.until, unixNano(k.NotAfter, math.MaxInt64))
		table.bounded = table.bounded || !info.NotBefore.IsZero() || !info.NotAfter.IsZero()
		table.answers = append(table.answers, answer{err: ErrExpired},
			answer{who: Principal{Name: info.Name, FP6: info.FP6, Tags: slices.Clone(k.Tags)}})
		table.infos = append(table.infos, info)
	}
	return table
}

// keys returns the keys of a table, with digests instead of tokens.
func (t *keyTable) keys() []Key {
	keys := make([]Key, 0, len(t.infos)+1)
	for i, info := range t.infos {
		keys = append(keys, Key{Name: info.Name, Digest: t.digests[i], NotBefore: info.NotBefore, NotAfter: info.NotAfter, Tags: t.answers[2+2*i].who.Tags})
	}
	return keys
}

// unixNano returns t in Unix nanoseconds, unbounded for the zero time, and the
// nearest that there is for one outside the years 1678 to 2262.
func unixNano(t time.Time, unbounded int64) int64 {
	switch {
	case t.IsZero():
		return unbounded
	case t.Before(time.Unix(0, math.MinInt64)):
		return math.MinInt64
	case t.After(time.Unix(0, math.MaxInt64)):
		return math.MaxInt64
	}
	return t.UnixNano()
}

func tooManyKeys(n int) error { return fmt.Errorf("authmin: %d keys, the limit is %d", n, maxKeys) }
