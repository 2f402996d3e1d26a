package worker

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/llorch/llorch/inputvalidation"
)

// Config sets up a [Dialer]. The zero value speaks to engines on this machine
// and in private networks.
type Config struct {
	Allow []inputvalidation.AddrKind // where engines may stand; nil = private and loopback
	TLS   *tls.Config                // for https targets; nil = the system's roots; TLS 1.2 is the least in any case
	// Dial, if set, makes the connections, and Allow is not applied. It is for
	// engines that are reached without the network.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Bounds of connections (ORC-447). A worker has at most slots + extraConns.
const (
	dialTimeout    = 5 * time.Second
	idleConn       = 90 * time.Second
	maxHeaderBytes = 64 << 10
	extraConns     = 4
	maxTransports  = 4096
)

// Dialer is the [Adapter] for OpenAI-compatible engines. It keeps one pool of
// connections per worker, follows no redirect, uses no proxy, asks for no
// compression and retries nothing. It is safe for concurrent use.
type Dialer struct {
	cfg  Config
	late atomic.Uint64
	bad  atomic.Uint64

	mu    sync.Mutex
	pools map[poolKey]*pool
}

var _ Adapter = (*Dialer)(nil)

type poolKey struct {
	base  string
	conns int
}

type pool struct {
	transport *http.Transport
	used      time.Time
}

// Stats counts what engines did wrong without failing a job.
type Stats struct {
	LateFrames uint64 // frames after the end of a stream, ignored
	Replaced   uint64 // bytes of text that were not UTF-8 and became U+FFFD
}

// NewDialer checks cfg and connects to nothing yet.
func NewDialer(cfg Config) (*Dialer, error) {
	var errs []error
	for _, k := range cfg.Allow {
		if k < inputvalidation.AddrPublic || k > inputvalidation.AddrReserved {
			errs = append(errs, errors.New("worker: Config.Allow: unknown kind of address"))
		}
	}
	if cfg.TLS != nil && cfg.TLS.MaxVersion != 0 && cfg.TLS.MaxVersion < tls.VersionTLS12 {
		errs = append(errs, errors.New("worker: Config.TLS: MaxVersion is below TLS 1.2"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if cfg.Allow == nil {
		cfg.Allow = []inputvalidation.AddrKind{inputvalidation.AddrPrivate, inputvalidation.AddrLoopback}
	}
	if cfg.Dial == nil {
		cfg.Dial = (&net.Dialer{Timeout: dialTimeout, Control: inputvalidation.DialControl(cfg.Allow...)}).DialContext
	}
	return &Dialer{cfg: cfg, pools: map[poolKey]*pool{}}, nil
}

// Stats returns the counts since the start.
func (d *Dialer) Stats() Stats {
	return Stats{LateFrames: d.late.Load(), Replaced: d.bad.Load()}
}

// Close closes idle connections; running jobs are not touched.
func (d *Dialer) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for k, p := range d.pools {
		p.transport.CloseIdleConnections()
		delete(d.pools, k)
	}
	return nil
}

// transport returns the connections to one worker and a URL to add a path to.
func (d *Dialer) transport(t Target) (*http.Transport, string, error) {
	u, err := url.Parse(t.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" ||
		u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Path != "" && u.Path != "/" {
		return nil, "", &Failure{Class: Connect, Reason: "the worker's URL is not a plain http or https base"}
	}
	key := poolKey{base: u.Scheme + "://" + u.Host, conns: max(t.Slots, 1) + extraConns}
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.pools[key]
	if p == nil {
		if len(d.pools) >= maxTransports {
			d.dropOldestLocked()
		}
		p = &pool{transport: d.newTransport(key.conns)}
		d.pools[key] = p
	}
	p.used = now
	return p.transport, key.base, nil
}

func (d *Dialer) dropOldestLocked() {
	var oldest poolKey
	for k, p := range d.pools {
		if o := d.pools[oldest]; o == nil || p.used.Before(o.used) {
			oldest = k
		}
	}
	d.pools[oldest].transport.CloseIdleConnections()
	delete(d.pools, oldest)
}

func (d *Dialer) newTransport(conns int) *http.Transport {
	conf := d.cfg.TLS.Clone()
	if conf == nil {
		conf = &tls.Config{}
	}
	conf.MinVersion = max(conf.MinVersion, tls.VersionTLS12)
	var http1 http.Protocols
	http1.SetHTTP1(true) // engines speak nothing else, and a job owns its connection
	return &http.Transport{
		DialContext:            d.dial,
		TLSClientConfig:        conf,
		TLSHandshakeTimeout:    dialTimeout,
		DisableCompression:     true,
		MaxConnsPerHost:        conns,
		MaxIdleConnsPerHost:    conns,
		IdleConnTimeout:        idleConn,
		MaxResponseHeaderBytes: maxHeaderBytes,
		Protocols:              &http1,
	}
}

func (d *Dialer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	return d.cfg.Dial(ctx, network, addr)
}
