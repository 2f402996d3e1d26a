package narration

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"net"
	"syscall"
	"time"
)

// Actor is who did something: a constant of the program that matches
// ^[a-z][a-z0-9_-]{0,47}$.
type Actor string

// Action is what was done; the same form as [Actor].
type Action string

// Keys that this package writes at the root of a record. Attributes of the
// program cannot take these names; see reserved.
const (
	keyHuman      = "human"
	keyService    = "service"
	keyVersion    = "version"
	keyInstance   = "instance"
	keyEmittedBy  = "emitted_by"
	keyCorrelate  = "correlation_id"
	keyTrace      = "trace_id"
	keySpan       = "span_id"
	keyParent     = "parent_span_id"
	keyActor      = "actor"
	keyAction     = "action"
	keyTarget     = "target"
	keyOutcome    = "outcome"
	keyDuration   = "duration_ms"
	keyError      = "error"
	keyErrorKind  = "error_kind"
	keyHTTPMethod = "http_method"
	keyHTTPRoute  = "http_route"
	keyHTTPStatus = "http_status"
	keyHTTPBytes  = "http_bytes"
	keyDropped    = "dropped_attrs"
)

// reserved reports whether an attribute may not have this name at the root.
func reserved(key string) bool {
	switch key {
	case slog.TimeKey, slog.LevelKey, slog.MessageKey, slog.SourceKey, keyHuman, keyService, keyVersion, keyInstance,
		keyEmittedBy, keyCorrelate, keyTrace, keySpan, keyParent, keyActor, keyAction, keyOutcome:
		return true
	}
	return false
}

// Prompt stands in for a prompt: prompt_sha256 and prompt_length in bytes, never
// the text.
func Prompt(text string) slog.Attr {
	sum := sha256.Sum256([]byte(text))
	return slog.Group("", slog.String("prompt_sha256", hex.EncodeToString(sum[:])), slog.Int("prompt_length", len(text)))
}

// Tenant stands in for a tenant: tenant_fp6, the first 6 hex digits of the
// SHA-256 of its id.
func Tenant(id string) slog.Attr {
	sum := sha256.Sum256([]byte(id))
	return slog.String("tenant_fp6", hex.EncodeToString(sum[:3]))
}

// Err gives error, the text, and error_kind, a word of a closed set: that of an
// ErrorKind() string method in the chain, else one of canceled timeout refused
// reset dns tls eof not_found permission exists no_space other. A nil err gives
// nothing.
func Err(err error) slog.Attr {
	if err == nil {
		return slog.Attr{}
	}
	return slog.Group("", slog.Any(keyError, err), slog.String(keyErrorKind, errorKind(err)))
}

func errorKind(err error) (kind string) {
	defer func() {
		if recover() != nil {
			kind = "other" // a method in the chain panicked
		}
	}()
	if k, ok := errors.AsType[interface {
		error
		ErrorKind() string
	}](err); ok {
		return k.ErrorKind()
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return "dns"
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "tls"
	}
	for _, k := range [...]struct {
		is   error
		kind string
	}{
		{context.Canceled, "canceled"},
		{context.DeadlineExceeded, "timeout"},
		{syscall.ECONNREFUSED, "refused"},
		{syscall.ECONNRESET, "reset"},
		{syscall.EPIPE, "reset"},
		{io.EOF, "eof"},
		{io.ErrUnexpectedEOF, "eof"},
		{fs.ErrNotExist, "not_found"},
		{fs.ErrPermission, "permission"},
		{fs.ErrExist, "exists"},
		{syscall.ENOSPC, "no_space"},
	} {
		if errors.Is(err, k.is) {
			return k.kind
		}
	}
	if t, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err); ok && t.Timeout() {
		return "timeout"
	}
	return "other"
}

// Ms gives a duration in milliseconds with at most 3 decimals.
func Ms(key string, d time.Duration) slog.Attr {
	return slog.Float64(key, math.Round(float64(d)/1e3)/1e3)
}
