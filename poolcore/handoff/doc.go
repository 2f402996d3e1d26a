// Package handoff writes and follows the files that say "this engine is ready at
// this URL".
//
// A pool writes one file <pool>-<replica>.json per ready worker into a directory
// of its own ([Write], [Remove]); a program that runs engines by other means does
// the same by hand or script. [Watch] polls such a directory and tells what
// appeared, changed and went away. [Parse] reads three shapes: the short one
// (pool_id, replica_id, engine, engine_version, url, and perhaps device_mask,
// slots, pid), the long one that Write writes, and either with http_endpoint for
// url.
//
// # Trust
//
// Whoever can write the directory decides where requests go. A file is believed
// only if it is a regular file of at most 64 KiB, no link, owned by this user or
// root, and its URL obeys an address policy: loopback only unless the caller says
// otherwise. A file never holds a key; [Write] refuses flags that could.
//
// # Torn reads
//
// Write replaces a file in one step. Other writers do not, so content that cannot
// be read yet is tried again at every tick and reported at the third.
package handoff
