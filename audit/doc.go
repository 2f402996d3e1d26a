// Package audit keeps a tamper-evident record of who did what.
//
// [Open] a log, [Log.Emit] what is routine, [Log.Append] what must be durable
// before it is done, and [Verify] the directory at any time. Records are JSON
// lines in daily files; each holds the SHA-256 of the stored bytes of the line
// before, so that
//
//	sed -n 3p 2026-11-21.audit | sha256sum
//
// prints the prev of line 4. Nothing is ever encoded again to be checked.
//
// # What it promises
//
//   - A nil error from [Log.Append] or [Ticket.Wait] means that the line is on
//     stable storage and survives a killed process and a power cut.
//   - No loss without evidence: what was emitted and not recorded is counted by a
//     gap record, and in a run that ended with [Log.Close]
//     emitted = records + dropped.
//   - [Log.Emit] returns within the bound of its class, whatever the disk does.
//   - A failed sync is never tried again on the same file: its unsynced events go
//     into a new one, and [Log.Healthy] tells as long as none can be written.
//   - Hostile text breaks no line, no terminal and no viewer, and is never a reason
//     to lose the event: it is escaped reversibly, or cut with a digest, and flagged.
//
// # What a verifier can prove, and what not
//
// [Verify] finds a changed, removed, inserted, copied or reordered line, and says
// in which file, line, offset and sequence number. That the end was cut off at a
// line boundary is seen from three things: the head in manifest.json, which is at
// most about a second of activity older than the log, the lengths and digests of
// closed files, and the names of the files before and after.
//
// Neither the manifest nor the chain is signed. This evidence holds against
// accident and careless edits; somebody who may write the directory can compute
// everything anew, unless a [Report.Head] was kept elsewhere. Signed checkpoints,
// proofs and copies off the host come in a later version; assurance is at most
// [AssuranceChain] until then.
//
// Not promised: the truth of what the application reports, events that are not
// yet durable, and secrecy. Personal members are written in clear today, so
// records are as confidential as the persons in them.
//
// # Concurrency and limits
//
// All exported functions and methods are safe for concurrent use. One process
// owns a directory at a time. Queues, lines, lists and findings are bounded; the
// bounds are in [Config] or beside the thing. Linux, macOS and FreeBSD can write;
// elsewhere [Open] returns [errors.ErrUnsupported] and reading works.
package audit
