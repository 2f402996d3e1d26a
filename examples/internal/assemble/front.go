package assemble

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"

	"github.com/llorch/llorch/authmin"
	"github.com/llorch/llorch/examples/internal/server"
	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/narration"
)

// Front is how a program is reached.
type Front struct {
	Addr             string  // host:port
	LastPort         int     // try the next ports up to this one if the first is taken; 0 = only the first
	Tokens           *Tokens // who may call; nil: strictly local callers only
	LoopbackOptional bool    // strictly local callers need no token
	AllowedHosts     []string
	Narrator         *narration.Narrator
}

// listen opens the listener, after the bind policy has agreed (SRV-3).
func (f Front) listen(ctx context.Context) (net.Listener, error) {
	policy := authmin.BindPolicy{}
	ln, err := policy.Listen(ctx, "tcp", f.Addr, f.Tokens.Len() > 0)
	if f.LastPort == 0 || !errors.Is(err, syscall.EADDRINUSE) {
		return ln, err
	}
	host, text, splitErr := net.SplitHostPort(f.Addr)
	port, portErr := strconv.Atoi(text)
	if splitErr != nil || portErr != nil {
		return nil, err
	}
	for port++; port <= f.LastPort; port++ {
		if ln, next := policy.Listen(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)), f.Tokens.Len() > 0); next == nil {
			return ln, nil
		}
	}
	return nil, fmt.Errorf("no free port up to %d: %w", f.LastPort, err)
}

// Check applies the bind policy without opening anything, so that a refusal
// comes before any file is made.
func (f Front) Check(ctx context.Context) error {
	return authmin.BindPolicy{}.Check(ctx, "tcp", f.Addr, f.Tokens.Len() > 0)
}

// open listens and builds the server for the routes into a.
func (f Front) open(ctx context.Context, a *App, p server.Parts) error {
	srv, err := server.New(server.Config{
		Narrator: f.Narrator, Keys: f.Tokens.Keys(), LoopbackOptional: f.LoopbackOptional, AllowedHosts: f.AllowedHosts,
	}, server.Routes(p))
	if err != nil {
		return fmt.Errorf("server: %w", err)
	}
	ln, err := f.listen(ctx)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	f.Tokens.attach(a)
	a.server, a.listener, a.Addr = srv, ln, ln.Addr().String()
	a.onClose("listener", func(context.Context) error {
		if err := ln.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil // the server has closed it
	})
	return nil
}

// loopback reports whether only this machine can reach the address.
func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && inputvalidation.ClassifyAddr(ip) == inputvalidation.AddrLoopback
}
