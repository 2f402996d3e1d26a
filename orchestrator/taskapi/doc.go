// Package taskapi holds what travels over HTTP: the bodies of /v2/tasks, the
// payloads of event streams, the error body in both shapes and the one table of
// error codes. It has no behaviour beside reading, checking and naming these.
//
// # Compatibility
//
// Members are only ever added. Unknown members of a request are ignored, names
// are matched exactly, letter case included.
//
// # Privacy
//
// An [Error] tells which field is wrong and which rule it broke. It never holds
// the value, and neither does anything else that is sent to a client unasked.
package taskapi
