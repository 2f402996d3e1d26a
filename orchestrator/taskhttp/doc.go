// Package taskhttp serves an orchestrator over HTTP: tasks with resumable event
// streams, sessions, artifacts, the catalogue, pools and the queue under /v2, the
// OpenAI-compatible calls under /v1, a person's data under /gdpr.
//
// [New] returns one handler on ServeMux patterns. It may be mounted in any mux,
// below a prefix by [http.StripPrefix]; [Routes] names its routes as data. Links
// in its answers are absolute paths without that prefix.
//
// # What the program in front of it does
//
// The outermost middleware makes the correlation id (response header
// X-Correlation-Id) and reads stated deadlines (package deadline). Used alone,
// the handler takes the request's own id when it is well formed, or makes one,
// and knows only deadlines of bodies and contexts. A program that serves a group
// of routes itself, such as /health, leaves it off by Config.Without.
//
// # Who may call
//
// Config.Authorize is the one seam. Without it only strictly local requests are
// served: peer and Host are loopback, no proxy stands between, and no foreign
// web page sent it.
//
// # Streams
//
// A stream is never buffered for a slow reader: each write has ten seconds, then
// the connection is cut and the reader may resume. Leaving a stream tells the
// engine that this reader is gone; what follows is the engine's rule.
package taskhttp
