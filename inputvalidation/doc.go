// Package inputvalidation refuses what is wrong, escapes what is shown, and
// opens files only through handles.
//
// It keeps three jobs apart that are usually mixed up:
//
//   - accept or refuse a value at a trust boundary: [CheckIdentifier],
//     [ParseUUID], [ParseHex], [ParsePrompt], [Range], [ParseModelRef],
//     [ParseRelPath], [CheckJSON], [DialControl];
//   - present any text in a log, terminal or page without losing a byte of
//     evidence: [Escape], [EscapeBlock], [EscapeMax], [Unescape];
//   - contain file access inside a directory: [Tree].
//
// # Order of checks
//
// Every validator checks in the same order, and the first offence wins: empty,
// length in bytes, invalid UTF-8, first offending position from left to right,
// structure. Offsets are byte offsets into the input. Limits are bytes unless
// the name says runes; runes are counted only after the byte limit passed.
//
// # UTF-8
//
// Ranging over a string, converting to runes and encoding JSON all turn
// different damaged inputs into the same U+FFFD. So every validator refuses
// invalid UTF-8 with its offset, and Escape keeps the damaged bytes. Nothing
// is normalised: names that grant authority are identifiers, which are ASCII,
// so look-alike letters cannot occur in them. One line of display text is
// checked by its length and by Escape(s) == s.
//
// # Errors
//
// Every refusal is an [*Error]. It carries field, rule, byte offset and limit,
// and never input, parts of it, texts of the operating system or file names,
// so it may be logged and answered to a stranger.
//
// # Not promised
//
// Safety at a sink (SQL, shell, HTML, prompt injection: quote there), Unicode
// normalisation, detection of confusable letters, protection against root,
// against bind mounts of single files, or against a writer that changes a file
// after it was opened.
//
// All functions are safe for concurrent use and never panic, whatever bytes
// they are given.
package inputvalidation
