package poolhttp

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/llorch/llorch/inputvalidation"
)

const (
	maxBody     = 256 << 10
	bodyTimeout = 10 * time.Second // of a client that sends it drop by drop
)

// none is the body of a request that says everything in its path: nothing, or an
// empty object.
type none struct{}

// with makes an endpoint of one that takes a body, and begins nothing after the
// deadline.
func with[T any](do func(*call, T) (answer, error)) endpoint {
	return func(c *call) (answer, error) {
		var v T
		raw, err := c.body()
		if err != nil {
			return answer{}, err
		}
		if _, free := any(v).(none); !free || len(raw) > 0 {
			if err := c.decode(raw, &v); err != nil {
				return answer{}, err
			}
		}
		if err := c.due(); err != nil {
			return answer{}, err
		}
		return do(c, v)
	}
}

// plain is with for requests that have no body.
func plain(do func(*call, none) (answer, error)) endpoint {
	return func(c *call) (answer, error) { return do(c, none{}) }
}

func (c *call) body() ([]byte, error) {
	if c.r.Body == nil || c.r.Body == http.NoBody {
		return nil, nil
	}
	// A server that can not set deadlines still has its own timeouts.
	_ = http.NewResponseController(c.w).SetReadDeadline(time.Now().Add(bodyTimeout))
	raw, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, maxBody))
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return nil, refuse(codeTooLarge)
	}
	if err != nil {
		return nil, invalid("body: incomplete")
	}
	return raw, nil
}

// decode refuses what encoding/json would accept silently: repeated and unknown
// members, bytes after the object.
func (c *call) decode(raw []byte, v any) error {
	if media, _, err := mime.ParseMediaType(c.r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		return refuse(codeMediaType)
	}
	if err := inputvalidation.CheckJSON("body", raw, maxBody); err != nil {
		return err
	}
	if !bytes.HasPrefix(bytes.TrimLeft(raw, " \t\r\n"), []byte("{")) {
		return invalid("body: object")
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && wrong.Field != "" {
		return invalid(knownField(wrong.Field) + ": type")
	}
	if err != nil {
		return invalid("body: member")
	}
	return nil
}

// knownField keeps the name of a member of our own types; a key of a map is the
// caller's.
func knownField(path string) string {
	top, _, _ := strings.Cut(path, ".env.")
	return top[:min(len(top), 64)]
}

// fromLoopback is for callers that have no token of this API: engines beside us.
func fromLoopback(do endpoint) endpoint {
	return func(c *call) (answer, error) {
		peer, err := netip.ParseAddrPort(c.r.RemoteAddr)
		if err != nil || !peer.Addr().Unmap().IsLoopback() {
			return answer{}, refuse(codeForbidden)
		}
		return do(c)
	}
}
