package fetch_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/poolcore/fetch"
)

// Addresses of the hub and of its delivery host on the network in memory.
const (
	hubAddr   = "127.0.0.1:8001"
	cdnAddr   = "127.0.0.2:8002"
	commitOne = "1111111111111111111111111111111111111111"
	commitTwo = "2222222222222222222222222222222222222222"
	token     = "hf_thisIsTheSecretToken0123456789"
	signature = "thisIsTheSecretSignature"
)

// wire is a network of pipes, so that a test's time can be virtual.
type wire struct {
	mu    sync.Mutex
	hosts map[string]chan net.Conn
	done  chan struct{}
}

func (w *wire) dial(ctx context.Context, _, address string) (net.Conn, error) {
	w.mu.Lock()
	l := w.hosts[address]
	w.mu.Unlock()
	if l == nil {
		return nil, errors.New("connection refused")
	}
	near, far := net.Pipe()
	select {
	case l <- far:
		return near, nil
	case <-w.done:
	case <-ctx.Done():
	}
	return nil, errors.New("connection refused")
}

type wireListener struct {
	w    *wire
	addr string
}

func (l wireListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.w.hosts[l.addr]:
		return c, nil
	case <-l.w.done:
		return nil, net.ErrClosed
	}
}
func (l wireListener) Close() error   { return nil }
func (l wireListener) Addr() net.Addr { return &net.TCPAddr{} }

// hub is a model hub and its delivery host. Fields are set before the first request.
type hub struct {
	t      testing.TB
	files  map[string][]byte // of the repository
	small  map[string]bool   // sent by the hub itself, known by their git blob
	commit string            // of main
	page   int               // entries on a page; 0 = all
	sealed string            // X-Error-Code of every answer, with status code
	status int
	cdn    string // address of the delivery host; "" = cdnAddr
	etag   string // of the delivery host; "" = from the content
	// fault may answer a request for a file's content in the hub's place.
	fault func(n int, name string, w http.ResponseWriter, r *http.Request) bool

	mu     sync.Mutex
	asked  []*http.Request
	served int64 // bytes of content
}

// content returns n bytes that compress badly and differ by seed.
func content(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, 1))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func sum(b []byte) string { s := sha256.Sum256(b); return hex.EncodeToString(s[:]) }

func blob(b []byte) string {
	s := sha1.Sum(append([]byte("blob "+strconv.Itoa(len(b))+"\x00"), b...))
	return hex.EncodeToString(s[:])
}

func newHub(t testing.TB, files map[string][]byte) *hub {
	return &hub{t: t, files: files, commit: commitOne, small: map[string]bool{}}
}

// requests returns how often content was asked for.
func (h *hub) requests() (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range h.asked {
		if strings.HasPrefix(r.URL.Path, "/cdn/") || strings.Contains(r.URL.Path, "/resolve/") && h.small[r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]] {
			n++
		}
	}
	return n
}

func (h *hub) bytes() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.served
}

func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	h.asked = append(h.asked, r.Clone(context.Background()))
	h.mu.Unlock()
	if h.sealed != "" || h.status != 0 {
		w.Header().Set("X-Error-Code", h.sealed)
		http.Error(w, "the server's own words "+token, h.status)
		return
	}
	switch parts := strings.Split(strings.TrimPrefix(r.URL.Path, "/"), "/"); {
	case strings.HasPrefix(r.URL.Path, "/api/models/org/repo/revision/"):
		commit := parts[5]
		if commit == "main" {
			commit = h.commit
		}
		json.NewEncoder(w).Encode(map[string]string{"sha": commit, "id": "org/repo"})
	case strings.HasPrefix(r.URL.Path, "/api/models/org/repo/tree/"):
		h.tree(w, r)
	case strings.HasPrefix(r.URL.Path, "/org/repo/resolve/"):
		h.resolve(w, r, parts[3], strings.Join(parts[4:], "/"))
	case strings.HasPrefix(r.URL.Path, "/cdn/"):
		h.content(w, r, strings.TrimPrefix(r.URL.Path, "/cdn/"))
	default:
		w.Header().Set("X-Error-Code", "RepoNotFound")
		http.Error(w, "no", http.StatusUnauthorized)
	}
}

func (h *hub) tree(w http.ResponseWriter, r *http.Request) {
	names := slices.Sorted(maps.Keys(h.files))
	start, _ := strconv.Atoi(r.URL.Query().Get("cursor"))
	end := len(names)
	if h.page > 0 && start+h.page < end {
		end = start + h.page
		w.Header().Set("Link", fmt.Sprintf(`<http://%s%s?recursive=true&cursor=%d>; rel="next"`, r.Host, r.URL.Path, end))
	}
	type lfs struct {
		OID  string `json:"oid"`
		Size int    `json:"size"`
	}
	var page []map[string]any
	for _, n := range names[start:end] {
		e := map[string]any{"type": "file", "path": n, "size": len(h.files[n]), "oid": blob(h.files[n])}
		if !h.small[n] {
			e["lfs"] = lfs{sum(h.files[n]), len(h.files[n])}
		}
		page = append(page, e)
	}
	page = append(page, map[string]any{"type": "directory", "path": "original", "size": 0, "oid": blob(nil)})
	json.NewEncoder(w).Encode(page)
}

func (h *hub) resolve(w http.ResponseWriter, r *http.Request, commit, name string) {
	b, ok := h.files[name]
	if !ok {
		w.Header().Set("X-Error-Code", "EntryNotFound")
		http.Error(w, "no", http.StatusNotFound)
		return
	}
	w.Header().Set("X-Repo-Commit", commit)
	if h.small[name] {
		h.content(w, r, name)
		return
	}
	w.Header().Set("X-Linked-ETag", `"`+sum(b)+`"`)
	w.Header().Set("X-Linked-Size", strconv.Itoa(len(b)))
	http.Redirect(w, r, "http://"+cmp.Or(h.cdn, cdnAddr)+"/cdn/"+name+"?X-Amz-Signature="+signature, http.StatusFound)
}

func (h *hub) content(w http.ResponseWriter, r *http.Request, name string) {
	if enc := r.Header.Get("Accept-Encoding"); enc != "identity" {
		h.t.Errorf("asked for the encoding %q", enc)
	}
	n := h.requests()
	w = &counter{w, h}
	if h.fault != nil && h.fault(n, name, w, r) {
		return
	}
	b := h.files[name]
	etag := h.etag
	if etag == "" {
		etag = `"cdn-` + sum(b)[:16] + `"`
	}
	w.Header().Set("ETag", etag)
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
}

// counter counts the bytes of content that are sent.
type counter struct {
	http.ResponseWriter
	h *hub
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.ResponseWriter.Write(b)
	c.h.mu.Lock()
	c.h.served += int64(n)
	c.h.mu.Unlock()
	return n, err
}

// reason lets faults flush.
func (c *counter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// cut sends the first bytes of b from where the request starts, promises all of
// it and breaks the connection.
func cut(w http.ResponseWriter, r *http.Request, b []byte, tag string, bytes int) {
	from := 0
	if s, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ok {
		from, _ = strconv.Atoi(strings.TrimSuffix(s, "-"))
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(b)-1, len(b)))
	}
	w.Header().Set("ETag", tag)
	w.Header().Set("Content-Length", strconv.Itoa(len(b)-from))
	if from > 0 {
		w.WriteHeader(http.StatusPartialContent)
	}
	w.Write(b[from:max(from, min(bytes, len(b)))])
	http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// world is a hub on a network in memory and a folder, in a bubble of virtual time.
type world struct {
	*testing.T
	hub     *hub
	sources fetch.Sources
	root    *os.Root
	dir     string
}

// inWorld runs f against a hub with the given files.
func inWorld(t *testing.T, files map[string][]byte, f func(w *world)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		h := newHub(t, files)
		net := &wire{hosts: map[string]chan net.Conn{hubAddr: make(chan net.Conn), cdnAddr: make(chan net.Conn)}, done: make(chan struct{})}
		srv := &http.Server{Handler: h}
		var served sync.WaitGroup
		for addr := range net.hosts {
			served.Go(func() { srv.Serve(wireListener{net, addr}) })
		}
		defer served.Wait()
		defer srv.Close()
		defer close(net.done)
		w := &world{T: t, hub: h, root: root, dir: dir}
		w.sources.HF = fetch.HuggingFace(fetch.HuggingFaceConfig{
			BaseURL: "http://" + hubAddr,
			Token:   func() string { return token },
			Egress:  loopback(net),
		})
		f(w)
	})
}

type dialer = func(ctx context.Context, network, address string) (net.Conn, error)

func loopback(w *wire) fetch.Egress {
	return fetch.Egress{
		Hosts: []string{"127.0.0.1", "127.0.0.2"}, HTTPLoopback: true,
		Allow: []inputvalidation.AddrKind{inputvalidation.AddrLoopback},
	}.Through(func(dialer) dialer { return w.dial })
}

func ref(t testing.TB, s string) inputvalidation.ModelRef {
	t.Helper()
	r, err := inputvalidation.ParseModelRef("ref", s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (w *world) resolve(s string) fetch.Plan {
	w.Helper()
	plan, err := w.sources.Resolve(w.Context(), ref(w, s), fetch.Options{})
	if err != nil {
		w.Fatal(err)
	}
	return plan
}

// get downloads a plan and compares what comes with the hub's files.
func (w *world) get(plan fetch.Plan) {
	w.Helper()
	got, err := w.sources.Download(w.Context(), plan, w.root, nil)
	if err != nil {
		w.Fatal(err)
	}
	w.compare(plan, got)
}

func (w *world) compare(plan fetch.Plan, got []fetch.Got) {
	w.Helper()
	if len(got) != len(plan.Files) {
		w.Fatalf("got %d files of %d", len(got), len(plan.Files))
	}
	for i, g := range got {
		want := w.hub.files[plan.Files[i].Path]
		have, err := w.root.ReadFile(g.Part.String())
		if err != nil || !bytes.Equal(have, want) || g.Size != int64(len(want)) || g.SHA256 != sum(want) || g.Path != plan.Files[i].Path {
			w.Errorf("file %d: %d bytes with digest %s, want %d with %s (%v)", i, len(have), g.SHA256, len(want), sum(want), err)
		}
	}
}

// refused expects the code, and that nothing secret shows.
func refused(t testing.TB, err error, code fetch.Code) {
	t.Helper()
	if !errors.Is(err, code) {
		t.Fatalf("got %v, want %s", err, code)
	}
	for _, secret := range []string{token, signature, "own words", "X-Amz", "?"} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("the error shows %q: %v", secret, err)
		}
	}
}

// names lists the folder.
func (w *world) names() (names []string) {
	w.Helper()
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		w.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

var _ io.Writer = (*counter)(nil)
