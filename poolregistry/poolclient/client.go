// Package poolclient is how the holder of a registry asks a node's own API. It
// connects only where the address policy allows, follows no redirect and reads
// at most 4 MiB of an answer.
package poolclient

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
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
	http *http.Client
}

// New returns a Client. It does no I/O.
func New(cfg Config) (*Client, error) {
	if cfg.Token == nil {
		return nil, errors.New("poolclient: Token is required")
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 5 * time.Second
	}
	return &Client{cfg: cfg, http: &http.Client{
		Transport:     cfg.Address.Transport(),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Workers returns how to reach the workers of a pool, with their credentials,
// from the node at address. It is retried as a GET may be. The error is an
// [*APIError] if the node answered, and an [*poolregistry.Error] if the address
// is outside the policy.
func (c *Client) Workers(ctx context.Context, address string, pool poolregistry.PoolID) ([]nodeapi.WorkerAccess, error) {
	if _, err := poolregistry.ParsePoolID(string(pool)); err != nil {
		return nil, err
	}
	var list nodeapi.WorkerList
	if err := c.get(ctx, address, "/pools/"+url.PathEscape(string(pool))+"/workers", &list); err != nil {
		return nil, fmt.Errorf("list workers: %w", err)
	}
	return list.Workers, nil
}

// get asks up to four times: on connect errors and 502, 503, 504, with the
// request schedule between.
func (c *Client) get(ctx context.Context, address, path string, answer any) error {
	base, err := c.cfg.Address.Check(address)
	if err != nil {
		return err
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.cfg.Timeout)
		defer cancel()
	}
	correlation := rand.Text()
	for attempt := 0; ; attempt++ {
		err := c.try(ctx, base.JoinPath(path), correlation, answer)
		if errors.Is(err, syscall.ECONNREFUSED) && c.cfg.Refused != nil {
			c.cfg.Refused(address)
		}
		if err == nil || attempt == 3 || !temporary(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(min(100*time.Millisecond<<attempt, 2*time.Second)):
		}
	}
}

func (c *Client) try(ctx context.Context, u *url.URL, correlation string, answer any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return errors.New("make request")
	}
	if c.cfg.Header != nil {
		c.cfg.Header(ctx, req.Header)
	}
	if req.Header.Get(nodeapi.HeaderCorrelation) == "" {
		req.Header.Set(nodeapi.HeaderCorrelation, correlation)
	}
	req.Header.Set("Authorization", "Bearer "+c.cfg.Token())
	if at, ok := ctx.Deadline(); ok {
		req.Header.Set(nodeapi.HeaderTimeout, strconv.FormatInt(max(1, time.Until(at).Milliseconds()), 10))
	}
	res, err := c.http.Do(req)
	if err != nil {
		if ue, ok := errors.AsType[*url.Error](err); ok {
			err = ue.Err // without the address
		}
		return &connectError{err}
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	switch {
	case err != nil:
		return errors.New("read answer")
	case len(body) > maxAnswer:
		return errors.New("answer is too large")
	case res.StatusCode != http.StatusOK:
		return apiError(res, body)
	}
	if err := inputvalidation.CheckJSON("answer", body, maxAnswer); err != nil {
		return err
	}
	if err := json.Unmarshal(body, answer); err != nil {
		return errors.New("answer has another form")
	}
	return nil
}
