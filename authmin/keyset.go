package authmin

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	minToken    = 32 // bytes of a configured token
	minDistinct = 8  // characters of a configured token
	maxKeys     = 1024
	maxTags     = 32
)

// Key is one configured token. Several keys may share a name: they are
// generations of one holder.
type Key struct {
	Name      string            // 1..64 of A-Z a-z 0-9 . _ -
	Token     Token             // the token, or
	Digest    [sha256.Size]byte // its SHA-256; exactly one of the two is set
	NotBefore time.Time         // first moment of validity; zero = unbounded
	NotAfter  time.Time         // first moment after it; zero = unbounded
	Tags      []string          // at most 32, each 1..128 of A-Z a-z 0-9 . _ @ : -
}

// KeyInfo is what may be told about a key.
type KeyInfo struct {
	Name, FP6           string
	NotBefore, NotAfter time.Time
}

// Verifier decides about a presented token. An error that wraps ErrRejected
// means "wrong token"; any other error means that it cannot decide now, which
// a [Gate] answers with 503. It must be safe for concurrent use.
type Verifier interface {
	Verify(ctx context.Context, t Token) (Principal, error)
}

// KeySet is a Verifier over 1..1024 keys. It holds digests, never tokens, is
// never empty, and is safe for concurrent use; Verify takes no lock.
type KeySet struct {
	keys atomic.Pointer[keyTable]
}

var _ Verifier = (*KeySet)(nil)

// keyTable is immutable once it is published.
type keyTable struct {
	digests [][sha256.Size]byte // side by side, so that the scan is one walk
	infos   []KeyInfo           // same order: by name, then NotBefore
	tags    [][]string
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
	table, err := newKeyTable(keys)
	if err != nil {
		return err
	}
	s.keys.Store(table)
	return nil
}

// Len returns the number of keys, 0 for a nil set.
func (s *KeySet) Len() int {
	if s == nil || s.keys.Load() == nil {
		return 0
	}
	return len(s.keys.Load().infos)
}

// Keys lists the keys by name, then NotBefore.
func (s *KeySet) Keys() iter.Seq[KeyInfo] {
	if s.Len() == 0 {
		return func(func(KeyInfo) bool) {}
	}
	return slices.Values(s.keys.Load().infos)
}

// Verify returns the principal of a live key, ErrRejected, or ErrExpired for a
// key outside its time of validity (wall clock). It compares the digest of t
// with that of every key, the invalid ones included, before it looks at any
// outcome. ctx is not used: nothing here waits.
func (s *KeySet) Verify(_ context.Context, t Token) (Principal, error) {
	if s.Len() == 0 {
		return Principal{}, ErrRejected
	}
	table := s.keys.Load()
	digest := t.digest()
	found, _ := scan(&digest, table.digests)
	if found < 0 || t.IsZero() {
		return Principal{}, ErrRejected
	}
	info := &table.infos[found]
	now := time.Now()
	if now.Before(info.NotBefore) || !info.NotAfter.IsZero() && !now.Before(info.NotAfter) {
		return Principal{}, ErrExpired
	}
	return Principal{Name: info.Name, FP6: info.FP6, Tags: slices.Clone(table.tags[found])}, nil
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

func newKeyTable(keys []Key) (*keyTable, error) {
	switch {
	case len(keys) == 0:
		return nil, ErrNoKeys
	case len(keys) > maxKeys:
		return nil, fmt.Errorf("authmin: %d keys, the limit is %d", len(keys), maxKeys)
	}
	var faults []error
	seen := make(map[[sha256.Size]byte]string, len(keys))
	sorted := slices.Clone(keys)
	for i := range sorted {
		k := &sorted[i]
		label := "key " + strconv.Itoa(i)
		if isWord(k.Name, 64, "._-") {
			label += " (" + k.Name + ")"
		}
		faults = append(faults, checkKey(label, k))
		if !k.Token.IsZero() {
			k.Digest = k.Token.digest()
		}
		if other, dup := seen[k.Digest]; dup {
			faults = append(faults, fmt.Errorf("authmin: %s has the same token as %s", label, other))
		}
		seen[k.Digest] = label
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	slices.SortStableFunc(sorted, func(a, b Key) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		return a.NotBefore.Compare(b.NotBefore)
	})
	table := new(keyTable)
	for _, k := range sorted {
		table.digests = append(table.digests, k.Digest)
		table.infos = append(table.infos, KeyInfo{k.Name, fp6Digest(&k.Digest), k.NotBefore, k.NotAfter})
		table.tags = append(table.tags, slices.Clone(k.Tags))
	}
	return table, nil
}

// checkKey reports all faults of one key, without its token.
func checkKey(label string, k *Key) error {
	var faults []error
	fault := func(text string) { faults = append(faults, fmt.Errorf("authmin: %s %s", label, text)) }
	if !isWord(k.Name, 64, "._-") {
		fault("has a name that is not 1..64 of A-Z a-z 0-9 . _ -")
	}
	empty := sha256.Sum256(nil)
	switch digestGiven := k.Digest != [sha256.Size]byte{}; {
	case digestGiven != k.Token.IsZero():
		fault("needs exactly one of token and digest")
	case digestGiven && k.Digest == empty:
		faults = append(faults, fmt.Errorf("authmin: %s: %w: digest of an empty token", label, ErrWeakToken))
	case !digestGiven:
		if rule := weakness(k.Token.Reveal()); rule != "" {
			faults = append(faults, fmt.Errorf("authmin: %s: %w: %s", label, ErrWeakToken, rule))
		}
	}
	if !k.NotBefore.IsZero() && !k.NotAfter.IsZero() && !k.NotAfter.After(k.NotBefore) {
		fault("is never valid: NotAfter is not after NotBefore")
	}
	if len(k.Tags) > maxTags {
		fault("has more than " + strconv.Itoa(maxTags) + " tags")
	}
	for _, tag := range k.Tags {
		if !isWord(tag, 128, "._@:-") {
			fault("has a tag that is not 1..128 of A-Z a-z 0-9 . _ @ : -")
			break
		}
	}
	return errors.Join(faults...)
}

// weakness names the rule that a configured token breaks, "" if none.
func weakness(s string) string {
	if len(s) < minToken {
		return "shorter than " + strconv.Itoa(minToken) + " bytes"
	}
	var seen [256]bool
	distinct := 0
	for i := range len(s) {
		if !seen[s[i]] {
			seen[s[i]] = true
			distinct++
		}
	}
	switch {
	case distinct < minDistinct:
		return "fewer than " + strconv.Itoa(minDistinct) + " distinct characters"
	case period(s) <= len(s)/2:
		return "one block repeated"
	}
	return ""
}

// period returns the length of the shortest block whose repetition, perhaps
// cut at the end, is s (by the prefix function of Knuth, Morris and Pratt).
func period(s string) int {
	border := make([]int, len(s))
	k := 0
	for i := 1; i < len(s); i++ {
		for k > 0 && s[i] != s[k] {
			k = border[k-1]
		}
		if s[i] == s[k] {
			k++
		}
		border[i] = k
	}
	return len(s) - k
}

// isWord reports whether s is 1..limit bytes of letters, digits and extra.
func isWord(s string, limit int, extra string) bool {
	if s == "" || len(s) > limit {
		return false
	}
	for i := range len(s) {
		if !isAlnum(s[i]) && strings.IndexByte(extra, s[i]) < 0 {
			return false
		}
	}
	return true
}
