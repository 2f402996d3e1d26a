// Package examples holds every program of llorch that a person starts, and the
// tests that look at all modules at once: who may import whom, how much each
// module exports, and whether the documents say what the code does. It has no
// code of its own to import.
package examples
