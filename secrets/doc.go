// Package secrets loads, holds, compares, derives and rotates secrets, and seals
// data at rest.
//
// A [Secret] is a handle: every formatter and encoder prints [REDACTED] or fails,
// and its bytes leave only through Use. [NewSource] finds secrets in files, in the
// service manager's credentials and, with a warning, in the environment;
// [ReadFile] judges and reads a file through one descriptor; [Rotating] follows
// one that changes. A [Key] is a Secret of exactly 32 bytes with derivation and a
// MAC; [EnsureKeyFile] keeps one on disk; a [Keyring] seals with several.
//
// # Where a Source looks
//
//	NAME_FILE          the path of a file that holds the secret
//	Files[NAME]        a path of the program's configuration, if that file exists
//	Credentials[NAME]  a file in $CREDENTIALS_DIRECTORY; else the file that is NAME
//	                   in lower case with - for _
//	NAME               the secret itself, with a warning
//
// Only absence moves on to the next place. Whatever is present but unreadable,
// badly owned or malformed is the final error, and so are a missing Rules.Root and a
// link that leads nowhere. NAME and NAME_FILE together are [ErrAmbiguous].
//
// A variable NAME is taken once: the first load unsets it and the Source keeps the
// value for later loads. Another Source finds nothing there. A Config with a
// LookupEnv but no Unsetenv unsets nothing.
//
// # What a file must look like
//
// A regular file whose path is absolute and clean. There are two sets of rules;
// what breaks one is [ErrPermission]:
//
//	           private                        mounted
//	owner      root or the effective user     the same; anybody beneath /run/secrets/
//	mode       & 0077 = 0                     & 0133 = 0; a Warning if & 0044
//	links      none, and link count 1         must stay inside the directory
//	directory  root or the effective user,    as for the file,
//	           & 0022 = 0 or sticky           & 0022 = 0 or sticky
//
// Mounted files are those beneath $CREDENTIALS_DIRECTORY or /run/secrets/, and
// those whose own directory holds a link ..data, as the volumes of container
// platforms do; all others are private. A link counts only if its owner could own
// the file. Mode 0440 beneath $CREDENTIALS_DIRECTORY is normal and gives no
// Warning. A load reads one generation of a volume: ..data is opened once, and
// the file through that handle. The directories on the way of any other link are
// not judged. A directory must be readable, not only searchable. Systems without owners and modes always give a
// Warning instead.
//
// # What Go can and cannot wipe
//
// Wiped by this package: payloads of Secrets and Keys (on Destroy, or when the
// garbage collector finds them dropped), read buffers, decode buffers, the output
// of HKDF. Not wiped:
//
//   - strings made by callers, and other copies made inside Use;
//   - copies in net/http headers, TLS and bufio buffers;
//   - goroutine stacks moved by growth;
//   - key schedules inside crypto/aes, HMAC states, and the pseudorandom key inside
//     crypto/hkdf, until collected;
//   - the page cache, swap, hibernation images, core dumps;
//   - the environment block: /proc/<pid>/environ keeps the first copy of a variable;
//   - anything in another process.
//
// Locking memory and core limits belong to the service manager.
//
// Everything here may be used from several goroutines at once.
package secrets
