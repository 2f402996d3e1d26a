package authmin

// Scan is the comparison of a digest with all keys.
var Scan = scan

// DefaultHint is what a refusal tells the operator.
const DefaultHint = defaultHint

// ListenBy is BindPolicy.Listen with the function that opens the socket.
var ListenBy = BindPolicy.listen

// Table is what a set holds.
func Table(s *KeySet) any { return *s.keys.Load() }
