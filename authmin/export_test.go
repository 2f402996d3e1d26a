package authmin

// Scan is the comparison of a digest with all keys.
var Scan = scan

// DefaultHint is what a refusal tells the operator.
const DefaultHint = defaultHint
