// Package enginetest holds the suite that every engine kind must pass, a
// stranger's too.
//
// The suite runs Probe against a scripted server on loopback: recorded answers of
// the real engine in each of its states, and the misbehaviour that any server can
// show. [Recorded] has the scripts of the kinds that come with this suite of
// modules; a stranger records their own engine once and keeps the result as data.
package enginetest
