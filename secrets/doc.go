// Package secrets loads, holds, compares and derives secrets.
//
// A [Secret] is a handle: every formatter and encoder prints [REDACTED] or fails,
// and its bytes leave only through Use. [NewSource] finds secrets in files and,
// with a warning, in the environment; [ReadFile] judges and reads a file through
// one descriptor. A [Key] is a Secret of exactly 32 bytes with derivation and a
// MAC; [EnsureKeyFile] keeps one on disk.
//
// # Where a Source looks
//
//	NAME_FILE    the path of a file that holds the secret
//	Files[NAME]  a path of the program's configuration, if that file exists
//	NAME         the secret itself, with a warning
//
// Only absence moves on to the next place. Whatever is present but unreadable,
// badly owned or malformed is the final error. NAME and NAME_FILE together are
// [ErrAmbiguous].
//
// # What a file must look like
//
// A regular file, one link, no symbolic link in the last place, owned by root or
// by the effective user, no permission for group and others; its directory owned
// by root or by the effective user and not writable by others, unless sticky.
// Systems without that model give a Warning instead.
//
// # What Go can and cannot wipe
//
// Wiped here: payloads of Secrets and Keys (on Destroy, or when the garbage
// collector finds them dropped), read buffers, decode buffers. Not wiped: strings
// and copies that callers make inside Use; copies in net/http headers, TLS and
// bufio buffers; goroutine stacks that moved; key schedules inside crypto/aes and
// HMAC states until collected; the page cache, swap, hibernation images, core
// dumps; the environment block (/proc/<pid>/environ keeps the first copy);
// anything in another process. Locking memory and core limits belong to the
// service manager.
//
// Everything here may be used from several goroutines at once.
package secrets
