package taskhttp

import (
	"cmp"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/taskapi"
)

// authorize finds the caller, who needs one of the roles (ORC-765).
func (c *call) authorize(roles orchestrator.Role) error {
	find := c.h.Authorize
	if find == nil {
		find = local
	}
	p, err := find(c.r)
	if err != nil {
		return authFault(err)
	}
	if p.Roles&roles == 0 {
		return taskapi.Forbidden
	}
	if t := c.r.Header.Get("X-Tenant-Id"); t != "" && t != cmp.Or(p.Tenant, "default") {
		return taskapi.TenantMismatch
	}
	c.p = p
	return nil
}

// authFault words a refusal of Authorize: as it says itself, by its status, or
// as 401.
func authFault(err error) error {
	if _, ok := errors.AsType[*taskapi.Error](err); ok {
		return err
	}
	code := taskapi.Unauthenticated
	if s, ok := errors.AsType[interface {
		error
		HTTPStatus() int
	}](err); ok {
		switch s.HTTPStatus() {
		case http.StatusForbidden:
			code = taskapi.Forbidden
		case http.StatusMisdirectedRequest:
			code = taskapi.HostNotListed
		case http.StatusServiceUnavailable:
			code = taskapi.AuthUnavailable
		}
	}
	return code
}

// local is Authorize when there is none: the one user of this machine. A proxy
// on the same host never counts as local, nor does a web page of another site.
func local(r *http.Request) (orchestrator.Principal, error) {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !peer.Addr().Unmap().IsLoopback() || !loopbackHost(r.Host) {
		return orchestrator.Principal{}, taskapi.Unauthenticated
	}
	for name := range r.Header {
		if name == "Forwarded" || name == "Via" || name == "X-Real-Ip" || strings.HasPrefix(name, "X-Forwarded-") {
			return orchestrator.Principal{}, taskapi.Unauthenticated
		}
	}
	if http.NewCrossOriginProtection().Check(r) != nil {
		return orchestrator.Principal{}, taskapi.NewError(taskapi.Forbidden)
	}
	return orchestrator.Principal{
		User: "local", Roles: orchestrator.RoleUser | orchestrator.RoleOperator, Addr: peer.Addr().String(),
	}, nil
}

// loopbackHost reports whether a Host header names this machine, with or
// without a port. A name that merely resolves to it does not count: any web
// page could use one.
func loopbackHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
	return err == nil && a.Unmap().IsLoopback()
}
