package fetch_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/poolcore/fetch"
)

// web is a TLS server on loopback that the tests reach under any name below
// example.com, and what it was asked.
type web struct {
	*httptest.Server
	mux *http.ServeMux

	mu    sync.Mutex
	asked []*http.Request
}

func newWeb(t *testing.T) *web {
	w := &web{mux: http.NewServeMux()}
	w.Server = httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		w.asked = append(w.asked, r)
		w.mu.Unlock()
		w.mux.ServeHTTP(rw, r)
	}))
	t.Cleanup(w.Close)
	return w
}

// roots returns the certificate of the server.
func (w *web) roots() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(w.Certificate())
	return p
}

// egress reaches the server behind every name and port, through the dial guard.
func (w *web) egress(hosts ...string) fetch.Egress {
	e := fetch.Egress{Hosts: hosts, Allow: []inputvalidation.AddrKind{inputvalidation.AddrLoopback}, RootCAs: w.roots()}
	return e.Through(func(next dialer) dialer {
		return func(ctx context.Context, network, _ string) (net.Conn, error) {
			return next(ctx, network, w.Listener.Addr().String())
		}
	})
}

// download resolves and downloads in one.
func download(t *testing.T, s fetch.Sources, r string, o fetch.Options) (*os.Root, []fetch.Got, error) {
	t.Helper()
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	s = s.Waiting(func(ctx context.Context, _ time.Duration) error { return ctx.Err() })
	plan, err := s.Resolve(t.Context(), ref(t, r), o)
	if err != nil {
		return root, nil, err
	}
	got, err := s.Download(t.Context(), plan, root, nil)
	return root, got, err
}

func serve(b []byte, tag string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", tag)
		w.Header().Set("Content-Disposition", `attachment; filename="../../evil.sh"`)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
	}
}

// TestHTTPS proves PCO-68 for https: the name comes from the reference, the
// strict policy wants a digest, a wrong one is never passed.
func TestHTTPS(t *testing.T) {
	w := newWeb(t)
	b := content(1, 100_000)
	w.mux.Handle("/models/m.gguf", serve(b, `"a"`))
	w.mux.HandleFunc("GET /nohead.gguf", func(rw http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			rw.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		rw.Write(b[:70_000])
		http.NewResponseController(rw).Flush()
		rw.Write(b[70_000:])
	})
	w.mux.HandleFunc("/long.gguf", func(rw http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			rw.Header().Set("Content-Length", "1000")
			return
		}
		rw.Write(b[:500])
		http.NewResponseController(rw).Flush()
		rw.Write(b[:501])
	})
	w.mux.HandleFunc("/endless.gguf", func(rw http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			rw.WriteHeader(http.StatusNotImplemented)
			return
		}
		c, _, err := http.NewResponseController(rw).Hijack()
		if err == nil {
			fmt.Fprintf(c, "HTTP/1.0 200 OK\r\n\r\nhalf of a mod")
			c.Close()
		}
	})
	s := fetch.Sources{HTTPS: fetch.HTTPS(fetch.HTTPSConfig{Egress: w.egress("models.example.com")})}
	const at = "https://models.example.com/"
	for _, c := range []struct {
		ref  string
		o    fetch.Options
		code fetch.Code
	}{
		{at + "models/m.gguf", fetch.Options{}, ""},
		{at + "models/m.gguf#sha256=" + sum(b), fetch.Options{Strict: true}, ""},
		{at + "models/m.gguf", fetch.Options{Strict: true}, fetch.HostNotAllowed},
		{at + "models/m.gguf#sha256=" + sum(nil), fetch.Options{}, fetch.DigestMismatch},
		{at + "nohead.gguf", fetch.Options{}, ""},
		{at + "endless.gguf", fetch.Options{}, fetch.SourceInvalid},
		{at + "endless.gguf#sha256=" + sum([]byte("half of a mod")), fetch.Options{}, ""},
		{at + "long.gguf", fetch.Options{}, fetch.DigestMismatch},
		{at + "none.gguf", fetch.Options{}, fetch.EntryNotFound},
		{"https://other.example.com/models/m.gguf", fetch.Options{}, fetch.HostNotAllowed},
	} {
		root, got, err := download(t, s, c.ref, c.o)
		if c.code != "" {
			refused(t, err, c.code)
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.ref, err)
			continue
		}
		data, err := root.ReadFile(got[0].Part.String())
		if err != nil || sum(data) != got[0].SHA256 || got[0].Path != path.Base(ref(t, c.ref).Path()) {
			t.Errorf("%s: %+v %v", c.ref, got, err)
		}
	}
}

// TestResumeHTTPS is the second half of TestResumeAfterFileChanged: where only a
// tag identifies a file, an earlier run's bytes are continued under the same tag,
// up to what was certainly on the disk, and dropped under another one (PCO-65).
func TestResumeHTTPS(t *testing.T) {
	b := content(1, 100_000)
	for _, c := range []struct {
		name, tag, now string
		synced, want   int64 // first byte that is asked for
	}{
		{"same tag", `"a"`, `"a"`, 50_000, 50_000},
		{"power was cut", `"a"`, `"a"`, 30_000, 30_000},
		{"killed before anything was certain", `"a"`, `"a"`, 0, 0},
		{"weak tag", ``, `W/"a"`, 50_000, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWeb(t)
			w.mux.Handle("/m.gguf", serve(b, c.now))
			s := fetch.Sources{HTTPS: fetch.HTTPS(fetch.HTTPSConfig{Egress: w.egress("*.example.com")})}
			plan, err := s.Resolve(t.Context(), ref(t, "https://a.example.com/m.gguf"), fetch.Options{})
			if err != nil {
				t.Fatal(err)
			}
			root, err := os.OpenRoot(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			if err := fetch.WritePart(root, plan, plan.Files[0], b[:50_000], c.tag, c.synced); err != nil {
				t.Fatal(err)
			}
			got, err := s.Download(t.Context(), plan, root, nil)
			if err != nil || got[0].SHA256 != sum(b) {
				t.Fatalf("%v %v", got, err)
			}
			want := ""
			if c.want > 0 {
				want = fmt.Sprintf("bytes=%d-", c.want)
			}
			if have := w.asked[len(w.asked)-1].Header.Get("Range"); have != want {
				t.Errorf("Range %q, want %q", have, want)
			}
		})
	}
	t.Run("changed between look and download", func(t *testing.T) {
		w := newWeb(t)
		now, tag := b, `"a"`
		w.mux.HandleFunc("/m.gguf", func(rw http.ResponseWriter, r *http.Request) {
			serve(now, tag)(rw, r)
			if r.Method == http.MethodHead {
				now, tag = content(2, 60_000), `"b"`
			}
		})
		_, got, err := download(t, fetch.Sources{HTTPS: fetch.HTTPS(fetch.HTTPSConfig{Egress: w.egress("*.example.com")})}, "https://a.example.com/m.gguf", fetch.Options{})
		if err != nil || got[0].SHA256 != sum(content(2, 60_000)) || got[0].Size != 60_000 {
			t.Errorf("%v %v, want the new file whole", got, err)
		}
	})
}

// TestRedirects proves PCO-67: at most 5, to listed hosts, over https, and with
// an address that the dial guard admits.
func TestRedirects(t *testing.T) {
	w := newWeb(t)
	b := content(1, 1000)
	w.mux.Handle("/m.gguf", serve(b, `"a"`))
	to := func(path, target string) {
		w.mux.HandleFunc(path, func(rw http.ResponseWriter, r *http.Request) { http.Redirect(rw, r, target, http.StatusFound) })
	}
	to("/5/m.gguf", "/4/m.gguf")
	to("/4/m.gguf", "/3/m.gguf")
	to("/3/m.gguf", "https://cdn.example.com/2/m.gguf")
	to("/2/m.gguf", "/1/m.gguf?X-Amz-Signature="+signature)
	to("/1/m.gguf", "/m.gguf")
	to("/6/m.gguf", "/5/m.gguf")
	to("/loop/m.gguf", "/loop/m.gguf")
	to("/other/m.gguf", "https://evil.example.com/m.gguf?X-Amz-Signature="+signature)
	to("/http/m.gguf", "http://cdn.example.com/m.gguf")
	to("/user/m.gguf", "https://user:"+token+"@cdn.example.com/m.gguf")
	to("/ip/m.gguf", "https://169.254.169.254/m.gguf")
	to("/file/m.gguf", "file:///etc/passwd")
	w.mux.HandleFunc("/blank/m.gguf", func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusFound) })
	s := fetch.Sources{HTTPS: fetch.HTTPS(fetch.HTTPSConfig{Egress: w.egress("hub.example.com", "cdn.example.com")})}
	for path, code := range map[string]fetch.Code{
		"5": "", "6": fetch.SourceInvalid, "loop": fetch.SourceInvalid, "other": fetch.HostNotAllowed, "http": fetch.HostNotAllowed,
		"user": fetch.HostNotAllowed, "ip": fetch.HostNotAllowed, "file": fetch.HostNotAllowed, "blank": fetch.SourceInvalid,
	} {
		w.asked = nil
		_, got, err := download(t, s, "https://hub.example.com/"+path+"/m.gguf", fetch.Options{})
		if code == "" {
			if err != nil || got[0].SHA256 != sum(b) {
				t.Errorf("%s: %v %v", path, got, err)
			}
			continue
		}
		refused(t, err, code)
		if most := 6; len(w.asked) > most {
			t.Errorf("%s: %d requests", path, len(w.asked))
		}
	}
}

// TestDialGuard proves PCO-67's guard: the address that a listed name really has
// decides, at the first host and behind a redirect.
func TestDialGuard(t *testing.T) {
	w := newWeb(t)
	w.mux.HandleFunc("/m.gguf", func(rw http.ResponseWriter, r *http.Request) {
		http.Redirect(rw, r, "https://rebound.example.com/m.gguf", http.StatusFound)
	})
	for name, allow := range map[string][]inputvalidation.AddrKind{
		"public only": nil,
		"none":        {},
		"loopback":    {inputvalidation.AddrLoopback},
	} {
		t.Run(name, func(t *testing.T) {
			e := w.egress("hub.example.com", "rebound.example.com").Through(func(next dialer) dialer {
				return func(ctx context.Context, network, address string) (net.Conn, error) {
					target := w.Listener.Addr().String()
					if strings.HasPrefix(address, "rebound.") {
						target = "10.255.255.1:443" // the name changed its address
					}
					return next(ctx, network, target)
				}
			})
			e.Allow = allow
			w.asked = nil
			_, _, err := download(t, fetch.Sources{HTTPS: fetch.HTTPS(fetch.HTTPSConfig{Egress: e})}, "https://hub.example.com/m.gguf", fetch.Options{})
			refused(t, err, fetch.HostNotAllowed)
			if !strings.Contains(err.Error(), "address") || name != "loopback" && len(w.asked) != 0 || name == "loopback" && len(w.asked) != 1 {
				t.Errorf("%d requests arrived: %v", len(w.asked), err)
			}
		})
	}
}

// TestRedirectDropsToken is the trap of PCO-67: what the first host gets, no other
// one does, not even a host below its name, nor the first host when another
// redirects back to it.
func TestRedirectDropsToken(t *testing.T) {
	w := newWeb(t)
	b := content(1, 1000)
	const repo = "/api/models/org/repo"
	w.mux.HandleFunc(repo+"/revision/main", func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprintf(rw, `{"sha":%q}`, commitOne) })
	w.mux.HandleFunc(repo+"/tree/"+commitOne, func(rw http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(rw, `[{"type":"file","path":"m.gguf","size":1000,"oid":%q}]`, blob(b))
	})
	to := func(pattern, target string) {
		w.mux.HandleFunc(pattern, func(rw http.ResponseWriter, r *http.Request) {
			http.SetCookie(rw, &http.Cookie{Name: "session", Value: "s"})
			http.Redirect(rw, r, target, http.StatusTemporaryRedirect)
		})
	}
	to("example.com/org/repo/resolve/"+commitOne+"/m.gguf", "/again/m.gguf")
	to("example.com/again/m.gguf", "https://cdn.example.com/x/m.gguf?X-Amz-Signature="+signature)
	to("cdn.example.com/x/m.gguf", "/y/m.gguf")
	to("cdn.example.com/y/m.gguf", "https://example.com/last/m.gguf")
	w.mux.Handle("example.com/last/m.gguf", serve(b, `"a"`))
	s := fetch.Sources{HF: fetch.HuggingFace(fetch.HuggingFaceConfig{
		BaseURL: "https://example.com", Token: func() string { return token }, Egress: w.egress("example.com", "cdn.example.com"),
	})}
	if _, got, err := download(t, s, "org/repo/m.gguf", fetch.Options{}); err != nil || got[0].SHA256 != sum(b) {
		t.Fatalf("%v %v", got, err)
	}
	want := []struct{ path, auth string }{
		{repo + "/revision/main", "Bearer " + token},
		{repo + "/tree/" + commitOne, "Bearer " + token},
		{"/org/repo/resolve/" + commitOne + "/m.gguf", "Bearer " + token},
		{"/again/m.gguf", "Bearer " + token},
		{"/x/m.gguf", ""},
		{"/y/m.gguf", ""},
		{"/last/m.gguf", ""},
	}
	if len(w.asked) != len(want) {
		t.Fatalf("%d requests, want %d", len(w.asked), len(want))
	}
	for i, r := range w.asked {
		if r.URL.Path != want[i].path || r.Header.Get("Authorization") != want[i].auth {
			t.Errorf("request %d: %s with %q, want %+v", i, r.URL.Path, r.Header.Get("Authorization"), want[i])
		}
		if len(r.Cookies()) != 0 || r.Referer() != "" {
			t.Errorf("request %d carries a cookie or the address before", i)
		}
	}
}

// TestHubPages: a hub that names its next page elsewhere does not get the token
// there.
func TestHubPages(t *testing.T) {
	w := newWeb(t)
	w.mux.HandleFunc("/api/models/org/repo/revision/main", func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprintf(rw, `{"sha":%q}`, commitOne) })
	next := ""
	w.mux.HandleFunc("/api/models/org/repo/tree/"+commitOne, func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Link", "<"+next+`>; rel="next"`)
		fmt.Fprint(rw, `[]`)
	})
	s := fetch.Sources{HF: fetch.HuggingFace(fetch.HuggingFaceConfig{BaseURL: "https://hub.example.com", Egress: w.egress("*.example.com")})}
	for _, next = range []string{"https://cdn.example.com/page", "https://hub.example.com/elsewhere?x", "https://hub.example.com/api/models/org/repo/tree/" + commitOne + "?for=ever"} {
		_, _, err := download(t, s, "org/repo/m.gguf", fetch.Options{})
		refused(t, err, fetch.SourceInvalid)
	}
	if n := len(w.asked); n > 110 {
		t.Errorf("%d requests", n)
	}
}

// TestHubStatesDigests proves PCO-66's "expected digest": a hub that names a file
// and no digest of it is not believed, whatever it would send.
func TestHubStatesDigests(t *testing.T) {
	w := newWeb(t)
	w.mux.HandleFunc("/api/models/org/repo/revision/main", func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprintf(rw, `{"sha":%q}`, commitOne) })
	list := ""
	w.mux.HandleFunc("/api/models/org/repo/tree/"+commitOne, func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprint(rw, list) })
	s := fetch.Sources{HF: fetch.HuggingFace(fetch.HuggingFaceConfig{BaseURL: "https://hub.example.com", Egress: w.egress("*.example.com")})}
	for _, list = range []string{
		`[{"type":"file","path":"m.gguf","size":4}]`,
		`[{"type":"file","path":"m.gguf","size":4,"oid":"` + commitOne + `","lfs":{"size":4}}]`,
	} {
		_, err := s.Resolve(t.Context(), ref(t, "org/repo/m.gguf"), fetch.Options{})
		refused(t, err, fetch.SourceInvalid)
	}
}
