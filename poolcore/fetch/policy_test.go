package fetch_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/poolcore/fetch"
)

// TestCertificate: a server that the roots do not know is refused at once.
func TestCertificate(t *testing.T) {
	w := newWeb(t)
	e := w.egress("*.example.com")
	e.RootCAs = x509.NewCertPool()
	w.Config.ErrorLog = log.New(io.Discard, "", 0)
	_, _, err := download(t, fetch.Sources{HTTPS: fetch.HTTPS(fetch.HTTPSConfig{Egress: e})}, "https://a.example.com/m.gguf", fetch.Options{})
	refused(t, err, fetch.Unreachable)
	if !strings.Contains(err.Error(), "certificate") {
		t.Error(err)
	}
}

// TestProxy proves the proxy rule of PCO-67 in processes of its own, because net/http
// reads the variables once.
func TestProxy(t *testing.T) {
	if mode := os.Getenv("LLORCH_TEST_PROXY"); mode != "" {
		e := fetch.Egress{Hosts: []string{"a.example.com"}, Proxy: mode == "honoured", Allow: []inputvalidation.AddrKind{inputvalidation.AddrLoopback}}
		e = e.Through(func(dialer) dialer {
			return func(_ context.Context, _, address string) (net.Conn, error) {
				fmt.Println("connected " + address)
				return nil, errors.New("enough")
			}
		})
		download(t, fetch.Sources{HTTPS: fetch.HTTPS(fetch.HTTPSConfig{Egress: e})}, "https://a.example.com/m.gguf", fetch.Options{})
		return
	}
	for mode, want := range map[string]string{"honoured": "connected relay.example.com:3128", "ignored": "connected a.example.com:443"} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestProxy$")
		cmd.Env = append(os.Environ(), "LLORCH_TEST_PROXY="+mode, "HTTPS_PROXY=http://relay.example.com:3128", "NO_PROXY=", "https_proxy=")
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v\n%s", mode, err, out)
		}
	}
}

// TestEgressDefault proves that the zero Egress allows nothing, and what the
// preset stands for (PCO-67, PCO-63's Egress).
func TestEgressDefault(t *testing.T) {
	for _, hosts := range [][]string{nil, {""}, {"*"}, {"*."}, {"*.com.evil"}, {"xample.com"}, {"*xample.com"}, {"*.models.example.com"}} {
		s := fetch.Sources{HTTPS: fetch.HTTPS(fetch.HTTPSConfig{Egress: fetch.Egress{Hosts: hosts}.Through(func(dialer) dialer {
			return func(_ context.Context, _, address string) (net.Conn, error) {
				t.Errorf("%q: connects %s", hosts, address)
				return nil, errors.New("no")
			}
		})})}
		_, _, err := download(t, s, "https://models.example.com/m.gguf", fetch.Options{})
		refused(t, err, fetch.HostNotAllowed)
	}
	var asked []string
	e := fetch.Egress{Hosts: fetch.HuggingFaceHosts()}.Through(func(dialer) dialer {
		return func(_ context.Context, _, address string) (net.Conn, error) {
			asked = append(asked, address)
			return nil, errors.New("no")
		}
	})
	for _, host := range []string{"huggingface.co", "cdn-lfs.huggingface.co", "cas-bridge.xethub.hf.co"} {
		_, _, err := download(t, fetch.Sources{HTTPS: fetch.HTTPS(fetch.HTTPSConfig{Egress: e})}, "https://"+host+"/m.gguf", fetch.Options{})
		refused(t, err, fetch.Unreachable)
	}
	_, _, err := download(t, fetch.Sources{HTTPS: fetch.HTTPS(fetch.HTTPSConfig{Egress: e})}, "https://evilhuggingface.co/m.gguf", fetch.Options{})
	refused(t, err, fetch.HostNotAllowed)
	if len(asked) != 15 { // five tries each
		t.Errorf("connected %v", asked)
	}
}
