// Package poolclient is how the holder of a registry commands a node's own API,
// and how it keeps workers registered that have no node daemon. It connects only
// where the address policy allows, follows no redirect and reads at most 4 MiB of
// an answer.
//
// Every method of [Client] takes the node's address. Its error is an [*APIError]
// if the node answered, and an [*poolregistry.Error] if the address is outside
// the policy or an id is malformed. Reads are repeated when that may help,
// commands only if no connection was ever there: one that got no answer may have
// been carried out.
package poolclient

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"syscall"
	"time"

	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/poolregistry"
	"github.com/llorch/llorch/poolregistry/nodeapi"
)

// A Config makes a [Client].
type Config struct {
	// Token returns the bearer token of the nodes' APIs. It is asked for every
	// request, so that rotation needs no restart. Required.
	Token func() string
	// Address says where the client may connect to; use the registry's policy.
	Address poolregistry.AddressPolicy
	// Timeout of a request whose context has no deadline; 0 = 5 s.
	Timeout time.Duration
	// Header may add headers, such as X-Correlation-Id and traceparent, to each
	// request. Without a correlation id in it a fresh one is sent. Nil = none.
	Header func(context.Context, http.Header)
	// Refused hears of the address of a node that refused a connection: say so to
	// the registry. It must not block. Nil = none.
	Refused func(address string)
}

const maxAnswer = 4 << 20

// A Client asks nodes. It is safe for concurrent use.
type Client struct {
	cfg  Config
	http *http.Client // of guarded
}

// New returns a Client. It does no I/O.
func New(cfg Config) (*Client, error) {
	if cfg.Token == nil {
		return nil, errors.New("poolclient: Token is required")
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 5 * time.Second
	}
	return &Client{cfg: cfg, http: guarded(cfg.Address)}, nil
}

// guarded makes a client that connects only where the policy allows and follows
// no redirect.
func guarded(policy poolregistry.AddressPolicy) *http.Client {
	return &http.Client{
		Transport:     policy.Transport(),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// A call is one request of a command.
type call struct {
	method  string
	address string // of the node
	path    string // escaped
	wait    bool   // the answer may wait for what was asked: say for how long
	body    any    // nil = none
}

// do sends the call and decodes the answer into answer, unless that is nil or the
// body is empty. It returns the status.
//
// GET, PUT and DELETE are sent up to four times: when no answer came, or 502, 503
// or 504, with the request schedule between. POST only when no connection was
// ever there.
func (c *Client) do(ctx context.Context, k call, answer any) (status int, err error) {
	base, err := c.cfg.Address.Check(k.address)
	if err != nil {
		return 0, err
	}
	var body []byte
	if k.body != nil {
		if body, err = json.Marshal(k.body); err != nil {
			return 0, errors.New("encode request")
		}
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.cfg.Timeout)
		defer cancel()
	}
	u := base.JoinPath(k.path)
	correlation := rand.Text()
	for attempt := 0; ; attempt++ {
		status, err := c.try(ctx, k, u, body, correlation, answer)
		if errors.Is(err, syscall.ECONNREFUSED) && c.cfg.Refused != nil {
			c.cfg.Refused(k.address)
		}
		if err == nil || attempt == 3 || !again(k.method, err) {
			return status, err
		}
		select {
		case <-ctx.Done():
			return 0, err
		case <-time.After(backoff(attempt)):
		}
	}
}

// backoff is the request schedule: 100 ms, doubled, at most 2 s.
func backoff(attempt int) time.Duration { return min(100*time.Millisecond<<attempt, 2*time.Second) }

// mostWait is how long an answer may wait, below the time that the transport
// gives a node to begin one.
const mostWait = 10 * time.Second

func (c *Client) try(ctx context.Context, k call, u *url.URL, body []byte, correlation string, answer any) (int, error) {
	req, err := http.NewRequestWithContext(ctx, k.method, u.String(), bytes.NewReader(body))
	if err != nil {
		return 0, errors.New("make request")
	}
	if c.cfg.Header != nil {
		c.cfg.Header(ctx, req.Header)
	}
	if req.Header.Get(nodeapi.HeaderCorrelation) == "" {
		req.Header.Set(nodeapi.HeaderCorrelation, correlation)
	}
	req.Header.Set("Authorization", "Bearer "+c.cfg.Token())
	if len(body) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	if at, ok := ctx.Deadline(); ok {
		left := time.Until(at)
		req.Header.Set(nodeapi.HeaderTimeout, strconv.FormatInt(max(1, left.Milliseconds()), 10))
		if k.wait {
			seconds := int64(min(max(0, left-time.Second), mostWait) / time.Second)
			req.Header.Set("Prefer", "wait="+strconv.FormatInt(seconds, 10))
		}
	}
	res, err := c.http.Do(req)
	if err != nil {
		if ue, ok := errors.AsType[*url.Error](err); ok {
			err = ue.Err // without the address
		}
		return 0, &connectError{err}
	}
	defer res.Body.Close()
	got, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	switch {
	case err != nil:
		return 0, errors.New("read answer")
	case len(got) > maxAnswer:
		return 0, errors.New("answer is too large")
	case res.StatusCode/100 != 2:
		return res.StatusCode, apiError(res, got)
	}
	return res.StatusCode, decode(got, answer)
}

func decode(body []byte, answer any) error {
	if answer == nil || len(body) == 0 {
		return nil
	}
	if err := inputvalidation.CheckJSON("answer", body, maxAnswer); err != nil {
		return err
	}
	if json.Unmarshal(body, answer) != nil {
		return errors.New("answer has another form")
	}
	return nil
}
