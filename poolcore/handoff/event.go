package handoff

// A Kind is what an [Event] tells.
type Kind string

// The kinds.
const (
	// Bound: a place has an engine now.
	Bound Kind = "bound"
	// Rebound: the content changed. Requests in flight end where they are.
	Rebound Kind = "rebound"
	// Unbound: the file is gone.
	Unbound Kind = "unbound"
	// Rejected: the file is not believed; told once per content. What an earlier
	// content bound stays bound, unless the file is [Refused].
	Rejected Kind = "rejected"
	// Stalled: the file was unreadable for three ticks; it is still tried.
	Stalled Kind = "stalled"
	// Duplicate: another file for the same place won; told once.
	Duplicate Kind = "duplicate"
)

// An Event is one change in a watched directory.
type Event struct {
	Kind    Kind
	File    string  // name in the directory, escaped where it has to be
	Winner  string  // the file that won, of a Duplicate
	Binding Binding // of Bound and Rebound the new one, of Unbound the last one, of Duplicate the one that lost
	Err     *Error  // of Rejected and Stalled
}

// kind of the event that tells of e.
func (e *Error) kind() Kind {
	if e.Code == Unreadable {
		return Stalled
	}
	return Rejected
}
