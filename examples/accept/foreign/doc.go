// Package foreign holds tests only: what other people collected to break programs
// of this kind, run against ours.
//
// Project Wycheproof's vectors check HMAC, HKDF and AES-GCM of module secrets, the
// big list of naughty strings and a list of our own check module inputvalidation
// and the logs of module narration. Both lists are fixed by go.sum.
package foreign
