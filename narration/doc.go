// Package narration tells what happened, for developers and operators, over
// log/slog.
//
// [NewJSON], [NewConsole] and [New] make a [Narrator], whose Logger is an
// ordinary *slog.Logger. Every string that goes through it (message, keys, group
// names, values, errors, ids) is redacted and escaped after the level check.
// Provenance and request ids stand at the root of the record, also under
// WithGroup, and cannot be forged by attributes. [Middleware] makes the
// correlation id of a request, puts it on every response and tells one wide event
// at the end; [Transport] carries the ids on.
//
// Libraries need only *slog.Logger and never import this package.
//
// # Redaction
//
// Hidden are: string values under the name of a secret; name=value pairs, also in
// JSON, YAML and query strings; bearer runs and Authorization lines; JSON web
// tokens; passwords in URLs; private keys in PEM; runs behind well-known
// prefixes; exact literals given to [Narrator.AddLiteral]. Not found are secrets
// without a recognisable form, name or registered literal, and secrets split over
// several attributes. Messages, request bodies and prompts do not belong in a log.
//
// # Escaping
//
// A rune that strconv.IsPrint refuses, a blank letter or variation selector, an
// invalid byte and the backslash are written as in a Go string literal. That is
// lossless, and no output can forge a line or drive a terminal.
//
// # State
//
// No package state, no goroutine: any number of narrators live in one process,
// and all of them may be used from several goroutines at once.
package narration
