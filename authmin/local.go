package authmin

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// openPath reports whether r asks for one of paths in the one spelling that
// counts: GET or HEAD, byte-equal, not percent-encoded.
func openPath(r *http.Request, paths []string) bool {
	return (r.Method == http.MethodGet || r.Method == http.MethodHead) && r.URL.RawPath == "" && slices.Contains(paths, r.URL.Path)
}

// checkOpenPath refuses patterns: an open path is exactly one path.
func checkOpenPath(path string) error {
	if !strings.HasPrefix(path, "/") || strings.HasSuffix(path, "/") || strings.Contains(path, "*") || strings.Contains(path, "..") || strings.Contains(path, "//") {
		return fmt.Errorf("authmin: open path %.64q is not one absolute path", path)
	}
	return nil
}

// localAddr returns the address of this end of the connection, invalid if
// unknown.
func localAddr(r *http.Request) netip.Addr {
	if tcp, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// peerAddr returns the address of the other end, invalid if it cannot be parsed.
func peerAddr(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}

// hostAllowed is the guard against DNS rebinding: a page of another site that
// makes its name resolve to loopback still sends its own name.
func (g *Gate) hostAllowed(r *http.Request, local netip.Addr) bool {
	if !isLoopback(local) && len(g.hosts) == 0 {
		return true
	}
	full := strings.ToLower(r.Host)
	host, ok := hostOnly(full)
	if !ok {
		return false
	}
	if ip, err := netip.ParseAddr(host); err == nil && isLoopback(ip) || host == "localhost" {
		return true
	}
	return slices.Contains(g.hosts, full) || slices.Contains(g.hosts, host)
}

// hostOnly returns a Host value without port and brackets.
func hostOnly(s string) (host string, ok bool) {
	if host, bracketed := strings.CutPrefix(s, "["); bracketed && strings.HasSuffix(s, "]") {
		return host[:len(host)-1], len(host) > 1
	}
	if !strings.Contains(s, ":") {
		return s, s != ""
	}
	host, port, err := net.SplitHostPort(s)
	return host, err == nil && host != "" && isPort(port)
}

// checkAllowedHost accepts "host" and "host:port" of Config.AllowedHosts.
func checkAllowedHost(s string) error {
	host, ok := hostOnly(s)
	if _, err := netip.ParseAddr(host); !ok || err != nil && !isHostName(host) {
		return fmt.Errorf("authmin: allowed host %.64q is not host or host:port", s)
	}
	return nil
}

// strictlyLocal reports whether the request comes from this machine without
// any proxy between. A proxy on the same host must never turn traffic of the
// Internet into local traffic. The Host guard has passed.
func strictlyLocal(r *http.Request, peer, local netip.Addr) bool {
	if !isLoopback(peer) || !isLoopback(local) {
		return false
	}
	for name := range r.Header {
		if isForwardingHeader(name) {
			return false
		}
	}
	return true
}

func isForwardingHeader(name string) bool {
	const prefix = "X-Forwarded-"
	return strings.EqualFold(name, "Forwarded") || strings.EqualFold(name, "Via") || strings.EqualFold(name, "X-Real-Ip") ||
		len(name) >= len(prefix) && strings.EqualFold(name[:len(prefix)], prefix)
}

// clientAddr returns the address to log: the peer, or what a listed proxy says.
func (g *Gate) clientAddr(r *http.Request, peer netip.Addr) netip.Addr {
	listed := slices.ContainsFunc(g.proxies, func(p netip.Prefix) bool { return peer.IsValid() && p.Contains(peer.WithZone("")) })
	fields := r.Header.Values("X-Forwarded-For")
	if !listed || len(fields) == 0 {
		return peer
	}
	last := fields[len(fields)-1]
	entry := strings.Trim(last[strings.LastIndexByte(last, ',')+1:], " \t")
	if a, err := netip.ParseAddr(entry); err == nil {
		return a.Unmap()
	}
	return peer
}
