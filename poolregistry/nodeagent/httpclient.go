package nodeagent

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/poolregistry"
	"github.com/llorch/llorch/poolregistry/internal/wirecode"
	"github.com/llorch/llorch/poolregistry/nodeapi"
)

const maxAnswer = 1 << 20

// client is the registry over HTTP.
type client struct {
	bases   []*url.URL
	current atomic.Int64 // index of the last good one
	token   func() string
	http    *http.Client
}

var _ Registrar = (*client)(nil)

func newClient(cfg Config) (*client, error) {
	c := &client{token: cfg.Token}
	var errs []error
	for i, s := range cfg.Orchestrators {
		u, err := url.Parse(s)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			errs = append(errs, fmt.Errorf("nodeagent: Orchestrators[%d] is not a base URL", i))
			continue
		}
		c.bases = append(c.bases, u)
	}
	if c.token == nil {
		errs = append(errs, errors.New("nodeagent: Token is required with Orchestrators"))
	}
	// Where an orchestrator is its node's owner says, but never at an address that
	// only this machine's surroundings mean. HTTP/2 would send the next attempt
	// over the connection on which the last one hangs.
	guard := inputvalidation.DialControl(inputvalidation.AddrPublic, inputvalidation.AddrPrivate, inputvalidation.AddrLoopback)
	hc := http.Client{Transport: &http.Transport{
		DialContext:         (&net.Dialer{Timeout: callTimeout, Control: guard}).DialContext,
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: callTimeout,
		MaxIdleConnsPerHost: 2,
		IdleConnTimeout:     2 * mostInterval,
	}}
	if cfg.HTTP != nil {
		hc = *cfg.HTTP
	}
	hc.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c.http = &hc
	return c, errors.Join(errs...)
}

// Register tries every orchestrator once, the last good one first.
func (c *client) Register(ctx context.Context, reg poolregistry.Registration) (g poolregistry.Grant, err error) {
	for range c.bases {
		g = poolregistry.Grant{}
		err = c.call(ctx, http.MethodPost, []string{"v2", "nodes", "register"}, "", reg, &g)
		switch {
		case err == nil && g.NodeID == reg.NodeID && g.LeaseToken != "" && g.Epoch > 0:
			return g, nil
		case err == nil:
			err = errors.New("register node: answer is not a grant")
			c.next()
		case refusalOf(err).Code != "" || ctx.Err() != nil:
			return poolregistry.Grant{}, err
		}
	}
	return poolregistry.Grant{}, err
}

// Beat asks one orchestrator; after a failure the next call asks the next one.
func (c *client) Beat(ctx context.Context, b poolregistry.Beat) (reply poolregistry.BeatReply, err error) {
	err = c.call(ctx, http.MethodPost, []string{"v2", "nodes", string(b.NodeID), "heartbeat"}, "", b, &reply)
	if err == nil && reply.NextHeartbeatMS <= 0 {
		c.next()
		err = errors.New("beat: answer is not a reply")
	}
	return reply, err
}

// Leave gives the lease back.
func (c *client) Leave(ctx context.Context, id poolregistry.NodeID, leaseToken string) error {
	return c.call(ctx, http.MethodDelete, []string{"v2", "nodes", string(id)}, leaseToken, nil, nil)
}

// next turns to the next orchestrator.
func (c *client) next() { c.current.Store((c.current.Load() + 1) % int64(len(c.bases))) }

// call sends one request. A refusal of the registry comes back as the same
// *poolregistry.Error that the registry itself would return.
func (c *client) call(ctx context.Context, method string, path []string, lease string, body, answer any) error {
	var raw []byte
	if body != nil {
		var err error
		if raw, err = json.Marshal(body); err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
	}
	u := c.bases[c.current.Load()].JoinPath(path...)
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(raw))
	if err != nil {
		return errors.New("make request")
	}
	req.Header.Set("Authorization", "Bearer "+c.token())
	req.Header.Set(nodeapi.HeaderCorrelation, rand.Text())
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if lease != "" {
		req.Header.Set(nodeapi.HeaderLease, lease)
	}
	status, got, err := c.send(req)
	if err == nil && status/100 != 2 {
		err = refusal(status, got)
	}
	if err == nil && answer != nil {
		if err = inputvalidation.CheckJSON("answer", got, maxAnswer); err == nil && json.Unmarshal(got, answer) != nil {
			err = errors.New("answer has another form")
		}
	}
	if err != nil && refusalOf(err).Code == "" {
		c.next()
	}
	return err
}

func (c *client) send(req *http.Request) (status int, body []byte, err error) {
	res, err := c.http.Do(req)
	if err != nil {
		if ue, ok := errors.AsType[*url.Error](err); ok {
			err = ue.Err
		}
		return 0, nil, fmt.Errorf("reach orchestrator: %w", err)
	}
	defer res.Body.Close()
	body, err = io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	switch {
	case err != nil:
		return 0, nil, errors.New("read answer")
	case len(body) > maxAnswer:
		return 0, nil, errors.New("answer is too large")
	}
	return res.StatusCode, body, nil
}

// refusal reads the canonical error body. Server errors and anything that a
// registry would not say are no refusals but failures of the way to it.
func refusal(status int, body []byte) error {
	var reply nodeapi.ErrorReply
	if json.Unmarshal(body, &reply) != nil {
		reply.Error.Code = ""
	}
	if reply.Error.Code == wirecode.TooLarge {
		return &poolregistry.Error{Code: wirecode.TooLarge} // less may be taken
	}
	if wirecode.Find(reply.Error.Code).Outcome == "" {
		return fmt.Errorf("orchestrator answered with status %d", status)
	}
	e := &poolregistry.Error{Code: poolregistry.Code(reply.Error.Code), RetryAfter: min(millis(reply.Error.RetryAfterMS), time.Hour)}
	if d := reply.Error.Details; d != nil {
		for _, f := range d.Fields[:min(len(d.Fields), 32)] {
			e.Fields = append(e.Fields, inputvalidation.EscapeMax(strings.ToValidUTF8(f, "?"), 128))
		}
	}
	return e
}
