package poolclient

import "net/http"

// SetTransport gives a client another way to nodes, for tests in virtual time.
func (c *Client) SetTransport(rt http.RoundTripper) { c.http.Transport = rt }

// SetTransport gives a probe another way to workers.
func (p *StaticProbe) SetTransport(rt http.RoundTripper) { p.http.Transport = rt }

// Workers is how many workers are looked after.
func (p *StaticProbe) Workers() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.workers)
}
