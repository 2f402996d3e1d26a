package fetch

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/llorch/llorch/inputvalidation"
)

// maxTag bounds a tag, in bytes.
const maxTag = 256

// open requests a file from a byte on and reads the head of the answer.
func (c *client) open(ctx context.Context, address, token string, from int64, tag string) (*Body, http.Header, error) {
	header := http.Header{}
	if from > 0 {
		header.Set("Range", "bytes="+strconv.FormatInt(from, 10)+"-")
		if tag != "" {
			header.Set("If-Range", tag)
		}
	}
	r, first, err := c.get(ctx, http.MethodGet, address, token, header)
	if err != nil {
		return nil, nil, err
	}
	b, err := bodyOf(r)
	if err != nil {
		_ = r.Body.Close() // the answer is not used
		return nil, nil, err
	}
	return b, first, nil
}

// bodyOf reads the head of an answer that may carry a file.
func bodyOf(r *http.Response) (*Body, error) {
	host := r.Request.URL.Hostname()
	if enc := r.Header.Get("Content-Encoding"); enc != "" && enc != "identity" {
		return nil, &Error{Code: SourceInvalid, Host: host, Hint: "the server sends an encoding that was not asked for"}
	}
	b := &Body{ReadCloser: r.Body, Total: r.ContentLength, Tag: strongTag(r.Header.Get("ETag"))}
	b.Ended = r.ContentLength >= 0 || len(r.TransferEncoding) > 0
	switch r.StatusCode {
	case http.StatusOK:
		return b, nil
	case http.StatusPartialContent:
		start, total, ok := parseContentRange(r.Header.Get("Content-Range"))
		if !ok {
			return nil, &Error{Code: RangeRefused, Host: host, Status: r.StatusCode, Retriable: true, Hint: "the server does not say which part it sends"}
		}
		b.Start, b.Total = start, total
		return b, nil
	}
	return nil, statusError(r)
}

// statusError turns the status of an answer into an error.
func statusError(r *http.Response) error {
	e := &Error{Code: Refused, Host: r.Request.URL.Hostname(), Status: r.StatusCode, Hint: "the server refuses"}
	said := map[string]Error{ // by the hub
		"GatedRepo":        {Code: GatedRepo, Hint: "accept the model's terms at the hub and give a token of that account"},
		"RepoNotFound":     {Code: RepoNotFound, Hint: "check the name; a private repository needs a token"},
		"RevisionNotFound": {Code: RevisionNotFound, Hint: "the repository has no such branch, tag or commit"},
		"EntryNotFound":    {Code: EntryNotFound, Hint: "the repository has no such file at this revision"},
	}
	if known, ok := said[r.Header.Get("X-Error-Code")]; ok {
		e.Code, e.Hint = known.Code, known.Hint
		return e
	}
	switch s := r.StatusCode; {
	case s >= 300 && s < 400:
		e.Code, e.Hint = SourceInvalid, "the redirect says no address"
	case s == http.StatusNotFound, s == http.StatusGone:
		e.Code, e.Hint = EntryNotFound, "the server has no such file"
	case s == http.StatusUnauthorized, s == http.StatusForbidden:
		e.Hint = "the server wants a token that may read this"
	case s == http.StatusRequestedRangeNotSatisfiable:
		e.Code, e.Hint, e.Retriable = RangeRefused, "the file is shorter than what lies here", true
	case s == http.StatusRequestTimeout, s == http.StatusTooManyRequests, s >= 500:
		e.Code, e.Hint, e.Retriable = Unreachable, "the server is busy or failing", true
		e.RetryAfter = parseRetryAfter(r.Header.Get("Retry-After"), time.Now())
	}
	return e
}

// transportError says why no answer came, without the texts of other layers:
// they show addresses with signatures.
func transportError(ctx context.Context, host string, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if own, ok := errors.AsType[*Error](err); ok {
		return own
	}
	if errors.Is(err, inputvalidation.RuleAddress) {
		return &Error{Code: HostNotAllowed, Host: host, Hint: "the host has an address that may not be connected"}
	}
	e := &Error{Code: Unreachable, Host: host, Retriable: true, Hint: "the connection failed"}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		e.Hint, e.Retriable = "the server's certificate is not trusted", false
		return e
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		e.Hint = "the name of the host is not known"
		e.Retriable = !dns.IsNotFound
		return e
	}
	if t, ok := errors.AsType[net.Error](err); ok && t.Timeout() {
		e.Code, e.Hint = Stalled, "the server did not answer in time"
	}
	return e
}

// parseContentRange reads "bytes <start>-<end>/<total>"; a part must reach the
// end of the file, since nothing else is asked for.
func parseContentRange(s string) (start, total int64, ok bool) {
	const form = "bytes %d-%d/%d"
	var end int64
	n, _ := fmt.Sscanf(s, form, &start, &end, &total) // n tells
	if n != 3 || s != fmt.Sprintf(form, start, end, total) || start < 0 || start > end || end != total-1 || total > maxSize {
		return 0, 0, false
	}
	return start, total, true
}

// parseRetryAfter reads seconds or a date; 0 if it is neither or over.
func parseRetryAfter(s string, now time.Time) time.Duration {
	var after time.Duration
	if n, err := strconv.ParseUint(s, 10, 31); err == nil {
		after = time.Duration(n) * time.Second
	} else if t, err := http.ParseTime(s); err == nil {
		after = t.Sub(now)
	}
	return min(max(0, after), mostRetryAfter)
}

// strongTag returns an entity tag that names bytes, "" for any other.
func strongTag(s string) string {
	inner, begun := strings.CutPrefix(s, `"`)
	inner, ended := strings.CutSuffix(inner, `"`)
	odd := func(r rune) bool { return r <= ' ' || r == '"' || r == '\x7f' }
	if !begun || !ended || inner == "" || len(s) > maxTag || strings.ContainsFunc(inner, odd) {
		return ""
	}
	return s
}

// bareTag returns an entity tag without its quotes and its mark of weakness.
func bareTag(s string) string { return strings.Trim(strings.TrimPrefix(s, "W/"), `"`) }
