package taskhttp

// ParseEventID is parseEventID, for its fuzz target.
func ParseEventID(s string) (uint64, bool) { return parseEventID(s) }
