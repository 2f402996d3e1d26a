package audit

import "context"

// SubjectKeys holds one random 32-byte key per person, so that a person's data
// can be erased everywhere at once by destroying the key. The log itself writes
// personal members in clear today; the interface stands here because the owners
// of a person's data share one store of keys.
//
// Implementations are safe for concurrent use, also by several owners.
type SubjectKeys interface {
	// Key returns the key of a subject and the key's id. When the subject has
	// none it makes one, and returns only after the key is on stable storage.
	// The id is 32 lower-case hex digits, random, and new after Destroy.
	Key(ctx context.Context, subject string) (key [32]byte, id string, err error)
	// Destroy removes the subject's key. A nil error means that the key is gone
	// from stable storage; a subject without a key is no error.
	Destroy(ctx context.Context, subject string) error
}

// KeyFinder is what reading needs: it never makes a key. A [SubjectKeys] may
// have it too; users find it by assertion.
type KeyFinder interface {
	// Find looks up a key by subject or, when subject is "", by key id. An
	// unknown or destroyed key is [ErrNoSubjectKey].
	Find(ctx context.Context, subject, id string) (key [32]byte, foundID string, err error)
}
