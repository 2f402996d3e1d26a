package narration

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
)

const (
	minLiteral  = 8   // shorter ones would hide ordinary words
	maxLiterals = 256 // each costs a comparison where its first byte occurs
)

// literals is a set of exact secrets; it never changes. nil is the empty set.
type literals struct {
	starts [256]uint8 // those of the rules, and the first bytes of the literals
	first  [256]bool
	texts  []string // longest first
}

// match returns the length of the literal that s begins with, 0 if none.
func (l *literals) match(s string) int {
	if l == nil || !l.first[s[0]] {
		return 0
	}
	for _, t := range l.texts {
		if strings.HasPrefix(s, t) {
			return len(t)
		}
	}
	return 0
}

// AddLiteral hides secret wherever it occurs from now on, until remove is called.
// It has at least 8 bytes, there are at most 256, and a literal that the
// replacement holds is refused. The text is kept in memory.
func (n *Narrator) AddLiteral(secret string) (remove func(), err error) {
	switch {
	case len(secret) < minLiteral:
		return nil, errors.New("add literal: fewer than 8 bytes")
	case strings.Contains(n.rules.repl, secret):
		return nil, errors.New("add literal: the replacement holds it")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.added) >= maxLiterals {
		return nil, errors.New("add literal: 256 are registered already")
	}
	entry := &secret
	n.added = append(n.added, entry)
	n.publishLocked()
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.added = slices.DeleteFunc(n.added, func(e *string) bool { return e == entry })
		n.publishLocked()
	}, nil
}

// publishLocked makes the set that handlers read from what was added.
func (n *Narrator) publishLocked() {
	if len(n.added) == 0 {
		n.literals.Store(nil)
		return
	}
	l := &literals{starts: n.rules.starts}
	for _, t := range n.added {
		l.texts = append(l.texts, *t)
		// Values of other types are searched in their JSON form.
		if q, err := json.Marshal(*t); err == nil && string(q[1:len(q)-1]) != *t {
			l.texts = append(l.texts, string(q[1:len(q)-1]))
		}
	}
	slices.SortFunc(l.texts, func(a, b string) int { return len(b) - len(a) })
	for _, t := range l.texts {
		l.first[t[0]], l.starts[t[0]] = true, always
	}
	n.literals.Store(l)
}
