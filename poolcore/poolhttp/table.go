package poolhttp

import (
	"slices"
	"time"
)

// Codes that only HTTP has.
const (
	codeUnauthorized = "UNAUTHORIZED"
	codeForbidden    = "FORBIDDEN"
	codeNotFound     = "NOT_FOUND"
	codeNoOperation  = "OPERATION_NOT_FOUND"
	codeMethod       = "METHOD_NOT_ALLOWED"
	codeTooLarge     = "BODY_TOO_LARGE"
	codeMediaType    = "UNSUPPORTED_MEDIA_TYPE"
	codeTooMany      = "TOO_MANY_REQUESTS"
	codeInternal     = "INTERNAL"
	codeUnavailable  = "UNAVAILABLE"
	codeDeadline     = "DEADLINE_EXCEEDED"
)

// row is what becomes of one code on the wire.
type row struct {
	code    string
	status  int
	retry   time.Duration // when trying again may help; 0: it does not
	message string        // for people; it never repeats what was sent
}

// find returns the row of a code; one without a row is INTERNAL.
func find(code string) row {
	rows := table()
	at := func(code string) int { return slices.IndexFunc(rows, func(r row) bool { return r.code == code }) }
	if i := at(code); i >= 0 {
		return rows[i]
	}
	return rows[at(codeInternal)]
}

// table holds every code of this module that can reach a caller, by status.
func table() []row { return slices.Concat(callerRows(), nodeRows()) }

// callerRows are for what the caller has to change, or to wait for.
func callerRows() []row {
	const s = time.Second
	return []row{
		{"INVALID_PARAMS", 400, 0, "the request is malformed; see details"},
		{"DEVICE_MASK_INVALID", 400, 0, "the mask does not name devices of this node"},
		{"ALIAS_NOT_ALLOWED", 400, 0, "the model is named without the place that it comes from"},
		{"MODEL_INCOMPATIBLE", 400, 0, "the engine can not run this model"},
		{"UNTRUSTED_ARTIFACT", 400, 0, "the policy of this node refuses where the model comes from, or what it is"},
		{codeUnauthorized, 401, 0, "credentials are missing or not valid"},
		{codeForbidden, 403, 0, "the caller may not do this"},
		{"BINARY_NOT_ALLOWED", 403, 0, "the program is not in this node's allow-list"},
		{"FLAG_NOT_ALLOWED", 403, 0, "a flag is not in the engine's allow-list"},
		{"GATED_REPO", 403, 0, "the source gives the model to registered users only"},
		{codeNotFound, 404, 0, "there is no such route"},
		{"POOL_UNKNOWN", 404, 0, "there is no such pool"},
		{"WORKER_NOT_FOUND", 404, 0, "there is no such worker"},
		{"MODEL_NOT_FOUND", 404, 0, "there is no such model on this node"},
		{codeNoOperation, 404, 0, "there is no such operation, or it ended long ago"},
		{"REPO_NOT_FOUND", 404, 0, "the source has no such repository"},
		{"REVISION_NOT_FOUND", 404, 0, "the source has no such revision"},
		{"ENTRY_NOT_FOUND", 404, 0, "the source has no such file"},
		{codeMethod, 405, 0, "the route does not know this method"},
		{"POOL_EXISTS", 409, 0, "the pool runs another configuration; reload it"},
		{"POOL_BUSY", 409, s, "another operation is under way"},
		{"DRAINING", 409, 5 * s, "the node or pool is being drained"},
		{"CANCELLED", 409, 0, "the operation was cancelled"},
		{"MODEL_IN_USE", 409, 0, "workers use the model, or it is being verified"},
		{"MODEL_RETIRED", 409, 0, "the model is retired"},
		{"MODEL_MISSING", 409, 0, "the model's files are not there"},
		{"MODEL_UNVERIFIED", 409, 0, "the model's files are not those whose digest was computed"},
		{"DIGEST_MISMATCH", 409, 0, "the bytes are not those of the expected digest"},
		{"BINARY_MISSING", 409, 0, "the engine's program can not be found"},
		{"BINARY_NOT_EXECUTABLE", 409, 0, "the engine's program is not executable"},
		{"ENV_NOT_ALLOWED", 409, 0, "a variable is not in the engine's allow-list"},
		{"CTX_TOO_LARGE", 409, 0, "the context is longer than the model's"},
		{"COMPUTE_CAPABILITY", 409, 0, "a device is older than the engine needs"},
		{"PORT_UNAVAILABLE", 409, 2 * s, "the port is in use"},
		{"CONFLICTING_WORKER", 409, 0, "another pool runs this model on these devices"},
		{"DIR_NOT_WRITABLE", 409, 0, "the node's state directory can not be written"},
		{codeTooLarge, 413, 0, "the body is too large"},
		{codeMediaType, 415, 0, "the body must be application/json"},
		{codeTooMany, 429, s, "too many requests"},
	}
}

// nodeRows are for what fails on the node, or has to change there.
func nodeRows() []row {
	const s, m = time.Second, time.Minute
	return []row{
		{codeInternal, 500, s, "internal error"},
		{"WORKER_START_FAILED", 500, 0, "the engine ended before it was ready"},
		{"WORKER_START_TIMEOUT", 500, 0, "the engine was not ready in time"},
		{"WORKER_STUCK", 500, 0, "a process of the engine can not be ended"},
		{"RELOAD_STAGE_FAILED", 500, 0, "the new engine can not be started; nothing was touched"},
		{"RELOAD_DRAIN_TIMEOUT", 500, m, "requests did not end in time; the old engine serves"},
		{"RELOAD_ROLLED_BACK", 500, 0, "the new engine did not get ready; the old one serves again"},
		{"RELOAD_ROLLBACK_FAILED", 500, 0, "neither the new engine nor the old one got ready"},
		{"PURGE_FAILED", 500, 0, "not everything could be removed"},
		{"MODEL_FOLDER_UNAVAILABLE", 500, 0, "the folder of the models can not be used"},
		{"UNSUPPORTED", 501, 0, "this node can not do this"},
		{"FETCH_STALLED", 502, m, "the source sends nothing any more"},
		{"FETCH_REFUSED", 502, 0, "the source refused"},
		{"FETCH_FAILED", 502, m, "the source can not be reached"},
		{"RANGE_NOT_SATISFIABLE", 502, 0, "the file at the source is shorter than it was"},
		{"SOURCE_CHANGED", 502, 0, "the source has another content than it had"},
		{"SOURCE_INVALID", 502, 0, "the source answers against its protocol"},
		{codeUnavailable, 503, s, "not available now"},
		{"POOL_UNREADY", 503, s, "the pool is stopped or not ready"},
		{"NO_SLOTS", 503, s, "all slots are taken"},
		{"BREAKER_OPEN", 503, m, "the pool failed too often; it is tried again later"},
		{"HOST_STOPPED", 503, 5 * s, "the node is starting or ending"},
		{"CATALOG_CLOSED", 503, 5 * s, "the node is ending"},
		{"vram_not_returned", 503, 10 * s, "the memory of the engine before is not free yet"},
		{"INSUFFICIENT_VRAM", 503, 10 * s, "not enough device memory is free"},
		{"INSUFFICIENT_RAM", 503, 10 * s, "not enough memory is free"},
		{"INSUFFICIENT_DISK", 503, m, "not enough disk space is free"},
		{"GPU_UNAVAILABLE", 503, m, "there is no such device now"},
		{"GPU_UNHEALTHY", 503, m, "a device is not healthy"},
		{codeDeadline, 504, s, "the time that the caller gives has passed"},
	}
}
