package authmin

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	minToken    = 32 // bytes of a configured token
	minDistinct = 8  // characters of a configured token
	maxKeys     = 1024
	maxName     = 64
	maxTags     = 32
	maxTag      = 128
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

// info returns what may be told about a key that has its digest, in wall-clock
// time: a key's end must not shift while a machine sleeps.
func (k *Key) info() KeyInfo {
	return KeyInfo{Name: k.Name, FP6: fp6Digest(&k.Digest), NotBefore: k.NotBefore.Round(0), NotAfter: k.NotAfter.Round(0)}
}

// checkKeys returns copies of the keys with their digests, or the faults of all
// of them.
func checkKeys(keys []Key) ([]Key, error) {
	switch {
	case len(keys) == 0:
		return nil, ErrNoKeys
	case len(keys) > maxKeys:
		return nil, tooManyKeys(len(keys))
	}
	var faults []error
	seen := make(map[[sha256.Size]byte]string, len(keys))
	checked := slices.Clone(keys)
	for i := range checked {
		k := &checked[i]
		label := "key " + strconv.Itoa(i)
		if isName(k.Name) {
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
	return checked, nil
}

// checkKey reports all faults of one key, without its token.
func checkKey(label string, k *Key) error {
	var faults []error
	fault := func(text string) { faults = append(faults, fmt.Errorf("authmin: %s %s", label, text)) }
	if !isName(k.Name) {
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
	if !allTags(k.Tags) {
		fault("has a tag that is not 1..128 of A-Z a-z 0-9 . _ @ : -")
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

func isName(s string) bool { return isWord(s, maxName, "._-") }

func allTags(tags []string) bool {
	return !slices.ContainsFunc(tags, func(s string) bool { return !isWord(s, maxTag, "._@:-") })
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
