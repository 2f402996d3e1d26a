package poolclient_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"sync/atomic"
	"testing"

	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/poolregistry"
	"github.com/llorch/llorch/poolregistry/nodeapi"
	"github.com/llorch/llorch/poolregistry/poolclient"
)

// resolve makes this process's resolver answer every question for an IPv4 address
// with what next returns, until the test ends.
func resolve(t *testing.T, next func() netip.Addr) {
	t.Helper()
	before := net.DefaultResolver
	t.Cleanup(func() { net.DefaultResolver = before })
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		go func() {
			defer server.Close()
			for answerDNS(server, next) == nil {
			}
		}()
		return client, nil
	}}
}

// answerDNS answers one question as a name server does over TCP.
func answerDNS(conn net.Conn, next func() netip.Addr) error {
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return err
	}
	msg := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(conn, msg); err != nil {
		return err
	}
	end := 12
	for msg[end] != 0 {
		end += int(msg[end]) + 1
	}
	end += 5 // the root label, type and class
	out := append([]byte{}, msg[:end]...)
	copy(out[2:], []byte{0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}) // a response, one question
	if qtype := binary.BigEndian.Uint16(msg[end-4:]); qtype == 1 {
		out[7] = 1
		ip := next().As4()
		out = append(out, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4) // the same name, A, IN, no time to live
		out = append(out, ip[:]...)
	}
	_, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(out))), out...))
	return err
}

// PRG-60: a name is judged by what it resolves to at each dial: private,
// loopback, link-local and metadata addresses under policies that do not allow
// them, for the client and for the probe of static workers.
func TestRebindingNameRefusedAtDial(t *testing.T) {
	var hits atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		hits.Add(1)
		w.Header().Set("Connection", "close")
		_, _ = io.WriteString(w, `{"pools":[]}`)
	}))
	defer srv.Close()
	u, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	at := "http://gpu.example:" + u.Port()
	var answer atomic.Pointer[netip.Addr]
	resolve(t, func() netip.Addr { return *answer.Load() })
	c := newClient(t, nil)
	if _, err := loopback().Check(at); err != nil {
		t.Fatal(err)
	}
	for _, k := range []struct {
		ip string
		ok bool
	}{{"127.0.0.1", true}, {"169.254.169.254", false}, {"10.0.0.1", false}, {"169.254.1.1", false}, {"0.0.0.0", false}, {"127.0.0.1", true}} {
		ip := netip.MustParseAddr(k.ip)
		answer.Store(&ip)
		before := hits.Load()
		_, err := c.Pools(t.Context(), at)
		if (err == nil) != k.ok || !k.ok && !errors.Is(err, inputvalidation.RuleAddress) || (hits.Load() > before) != k.ok {
			t.Errorf("the name is %s: %v, %d requests", k.ip, err, hits.Load()-before)
		}
	}
}

// CVE-2024-24790, PRG-60: no spelling of an address that is not allowed passes,
// neither for commands nor for static workers.
func TestMappedAddressRefused(t *testing.T) {
	reg, err := poolregistry.New(poolregistry.Config{})
	if err != nil {
		t.Fatal(err)
	}
	probe, err := poolclient.NewStaticProbe(poolclient.StaticConfig{Registry: reg})
	if err != nil {
		t.Fatal(err)
	}
	c, err := poolclient.New(poolclient.Config{Token: func() string { return "t" }})
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"127.0.0.1", "::ffff:127.0.0.1", "::1", "::ffff:169.254.169.254", "169.254.169.254", "fe80::1", "8.8.8.8", "0.0.0.0", "64:ff9b::a9fe:a9fe"} {
		if _, err := c.Pools(t.Context(), "http://"+net.JoinHostPort(host, "9200")); !errors.Is(err, poolregistry.AddressNotAllowed) {
			t.Errorf("command to %s: %v", host, err)
		}
		err := probe.Put(t.Context(), nodeapi.StaticWorker{ID: "w", Host: host, Port: 9200, Model: "m"}, "p")
		if !errors.Is(err, poolregistry.AddressNotAllowed) {
			t.Errorf("worker at %s: %v", host, err)
		}
	}
	if n := len(reg.View().Nodes); n != 0 {
		t.Errorf("%d nodes", n)
	}
}
