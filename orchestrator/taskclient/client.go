// Package taskclient speaks to an orchestrator over HTTP: it submits tasks, reads
// their events and resumes when a connection or a replica goes away.
//
// # Retries
//
// Every Submit carries an idempotency key, so each call may be repeated: after an
// error of the connection and after 429, 502, 503 and 504, unless the answer says
// that repeating it is useless. A hint of the server is kept to; a hint that
// reaches beyond the end of the context ends the call with the refusal.
//
// # Concurrency
//
// A [Client] serves many goroutines, starts none and has nothing to close. An
// iterator that was left holds nothing any more.
package taskclient

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/llorch/llorch/orchestrator/taskapi"
)

// Config of a client. Only BaseURLs is required.
type Config struct {
	BaseURLs []string // of the replicas, tried in turn: http or https, with a path if they are mounted below one
	// Token returns the bearer token of a request; "" sends none. nil: none.
	Token func(context.Context) (string, error)
	// HTTPClient sends the requests. nil: http.DefaultClient. Its Timeout would
	// cut streams; contexts bound calls instead.
	HTTPClient *http.Client
	Logger     *slog.Logger // nil: slog.DiscardHandler
}

// Client speaks to one orchestrator.
type Client struct {
	bases []*url.URL
	token func(context.Context) (string, error)
	http  *http.Client
	log   *slog.Logger
	turn  atomic.Uint32 // replica that is asked next: it answered last, or is behind one that did not
}

// New checks cfg and reports all faults at once.
func New(cfg Config) (*Client, error) {
	c := &Client{token: cfg.Token, http: cfg.HTTPClient, log: cfg.Logger}
	if c.http == nil {
		c.http = http.DefaultClient
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	var errs []error
	if len(cfg.BaseURLs) == 0 {
		errs = append(errs, errors.New("taskclient: Config.BaseURLs: required"))
	}
	for i, base := range cfg.BaseURLs {
		u, err := url.Parse(base)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			errs = append(errs, fmt.Errorf("taskclient: Config.BaseURLs[%d]: not a plain http or https address", i))
			continue
		}
		c.bases = append(c.bases, u)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return c, nil
}

// Submit hands a task in. Its errors are *[taskapi.Error] when the server
// refused. A request that names TaskID may be repeated by the caller too; the
// answer then says Duplicate.
func (c *Client) Submit(ctx context.Context, s taskapi.Submit) (taskapi.Accepted, error) {
	var a taskapi.Accepted
	body, err := json.Marshal(s)
	if err != nil {
		return a, fmt.Errorf("encode task: %w", err)
	}
	return a, c.call(ctx, request{method: http.MethodPost, path: "/v2/tasks", body: body, key: rand.Text()}, &a)
}

// Task returns the metadata of one task.
func (c *Client) Task(ctx context.Context, id string) (t taskapi.Task, err error) {
	return t, c.call(ctx, request{method: http.MethodGet, path: taskPath(id)}, &t)
}

// Cancel ends a task. After nil no reader sees another token; an ended task is nil.
func (c *Client) Cancel(ctx context.Context, id string) error {
	return c.call(ctx, request{method: http.MethodPost, path: taskPath(id) + "/cancel"}, nil)
}

// Filter selects tasks for [Client.Tasks]. Zero members select all of the caller's.
type Filter struct {
	Status  []string // see taskapi.Statuses
	Model   string
	Session string
	Since   time.Time
	Before  string // only tasks accepted before this one
}

// pageSize is how many tasks are asked for at once.
const pageSize = 100

// Tasks yields tasks, newest first, page by page. The first error ends it.
func (c *Client) Tasks(ctx context.Context, f Filter) iter.Seq2[taskapi.Task, error] {
	return func(yield func(taskapi.Task, error) bool) {
		for {
			var page taskapi.TaskList
			if err := c.call(ctx, request{method: http.MethodGet, path: "/v2/tasks", query: f.query()}, &page); err != nil {
				yield(taskapi.Task{}, err)
				return
			}
			for _, t := range page.Tasks {
				if !yield(t, nil) {
					return
				}
			}
			if page.NextBefore == "" || page.NextBefore == f.Before {
				return
			}
			f.Before = page.NextBefore
		}
	}
}

func (f Filter) query() url.Values {
	q := url.Values{"limit": {strconv.Itoa(pageSize)}}
	for name, v := range map[string]string{"status": strings.Join(f.Status, ","), "model": f.Model, "session": f.Session, "before": f.Before} {
		if v != "" {
			q.Set(name, v)
		}
	}
	if !f.Since.IsZero() {
		q.Set("since", f.Since.UTC().Format(time.RFC3339Nano))
	}
	return q
}

func taskPath(id string) string { return "/v2/tasks/" + url.PathEscape(id) }

// request is what is asked, whichever replica answers.
type request struct {
	method, path string
	query        url.Values
	body         []byte
	key          string // idempotency key; "" none
	after        uint64 // Last-Event-ID of a stream
	stream       bool
}

// send asks one replica.
func (c *Client) send(ctx context.Context, base *url.URL, q request) (*http.Response, error) {
	at := *base
	at.Path, at.RawPath = "", ""
	text := at.String() + strings.TrimSuffix(base.EscapedPath(), "/") + q.path
	if len(q.query) > 0 {
		text += "?" + q.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, q.method, text, bytes.NewReader(q.body))
	if err != nil {
		return nil, err
	}
	h := req.Header
	h.Set("Accept", "application/json")
	if q.stream {
		h.Set("Accept", "text/event-stream")
	}
	if q.body != nil {
		h.Set("Content-Type", "application/json")
	}
	if q.key != "" {
		h.Set("Idempotency-Key", q.key)
	}
	if q.after > 0 {
		h.Set("Last-Event-ID", strconv.FormatUint(q.after, 10))
	}
	if c.token != nil {
		token, err := c.token(ctx)
		if err != nil {
			return nil, &tokenErr{err}
		}
		if token != "" {
			h.Set("Authorization", "Bearer "+token)
		}
	}
	return c.http.Do(req)
}

// tokenErr is a failure of Config.Token: no replica can mend it.
type tokenErr struct{ error }

func (e *tokenErr) Unwrap() error { return e.error }

// replica returns whom to ask, and pass moves on to the next one if nobody did so
// meanwhile.
func (c *Client) replica() (base *url.URL, turn uint32) {
	turn = c.turn.Load()
	return c.bases[turn%uint32(len(c.bases))], turn
}

func (c *Client) pass(turn uint32) { c.turn.CompareAndSwap(turn, turn+1) }

// maxAnswer bounds a JSON answer in bytes: a page of 1,000 tasks fits many times.
const maxAnswer = 16 << 20

// decode reads an answer that is no refusal.
func decode(res *http.Response, into any) error {
	if into == nil {
		return nil
	}
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return err
	}
	if len(raw) > maxAnswer {
		return errors.New("taskclient: the answer is too large")
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("decode answer: %w", err)
	}
	return nil
}
