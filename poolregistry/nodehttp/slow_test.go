package nodehttp_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/poolregistry"
	"github.com/llorch/llorch/poolregistry/nodehttp"
)

// pipes is a listener over in-memory pipes, so that slow clients take no time.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// listen serves s and returns how to connect to it.
func listen(t *testing.T, s *server) func() net.Conn {
	t.Helper()
	l := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
	srv := &http.Server{Handler: s.h, ReadHeaderTimeout: time.Minute}
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(l) })
	t.Cleanup(func() {
		_ = srv.Close()
		wg.Wait()
		time.Sleep(time.Second) // a server lingers half a second over a client that it refused
	})
	return func() net.Conn {
		client, srv := net.Pipe()
		l.conns <- srv
		return client
	}
}

const slowHead = "POST /v2/nodes/a/heartbeat HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer node\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"

// PRG-56: a client that sends its body drop by drop is refused after 10 s, and
// nobody else waits for it: no lock is held while a body is read.
func TestSlowBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, poolregistry.Config{}, "root")
		s.register("a")
		conn := listen(t, s)()
		defer conn.Close()
		start := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() {
			_, _ = fmt.Fprintf(conn, slowHead, 1000)
			for range 20 { // a drop per second
				if _, err := io.WriteString(conn, " "); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		})
		time.Sleep(5 * time.Second)
		if res := s.do("node", beatA, s.beat("a")); res.StatusCode != http.StatusOK || time.Since(start) != 5*time.Second {
			t.Errorf("another beat: %s after %v", res.Status, time.Since(start))
		}
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); res.StatusCode != http.StatusBadRequest || d != 10*time.Second {
			t.Errorf("%s after %v, want 400 after 10s", res.Status, d)
		}
		_ = conn.Close()
		wg.Wait()
	})
}

// PRG-56: a client that does not read its answer holds nobody up either.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, poolregistry.Config{}, "root")
		s.register("a")
		conn := listen(t, s)()
		_, _ = io.WriteString(conn, "GET /v2/nodes HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer reader\r\n\r\n")
		synctest.Wait() // the handler is writing to a pipe that nobody reads
		if res := s.do("node", beatA, s.beat("a")); res.StatusCode != http.StatusOK {
			t.Errorf("another beat: %s", res.Status)
		}
		s.register("b")
		_ = conn.Close()
	})
}

// PRG-56: a client that never reads has its connection closed after 30 s, so that
// answers do not pile up in memory.
func TestReaderWhoNeverReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, poolregistry.Config{}, "root")
		s.register("a")
		start := time.Now()
		took := make(chan time.Duration, 1)
		inner := s.h
		s.h = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			inner.ServeHTTP(w, r)
			_ = http.NewResponseController(w).Flush()
			took <- time.Since(start)
		})
		conn := listen(t, s)()
		defer conn.Close()
		_, _ = io.WriteString(conn, "GET /v2/nodes HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer reader\r\n\r\n")
		select {
		case d := <-took:
			if d != 30*time.Second {
				t.Errorf("given up after %v, want 30s", d)
			}
		case <-time.After(time.Hour):
			t.Error("the handler still waits")
		}
	})
}

// PRG-56: a body that is larger than it may be is refused after the limit; what
// follows is not read.
func TestOversizeClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, poolregistry.Config{}, "root")
		s.register("a")
		conn := listen(t, s)()
		defer conn.Close()
		sent := make(chan int, 1)
		go func() {
			n := 0
			defer func() { sent <- n }()
			_, _ = fmt.Fprintf(conn, slowHead, 1<<30)
			chunk := strings.Repeat(" ", 4<<10)
			for n < 1<<30 {
				if _, err := io.WriteString(conn, chunk); err != nil {
					return
				}
				n += len(chunk)
			}
		}()
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || res.StatusCode != http.StatusRequestEntityTooLarge || !res.Close {
			t.Fatalf("%+v, %v", res, err)
		}
		_ = conn.Close()
		if n := <-sent; n > 1<<20 {
			t.Errorf("the server took %d bytes", n)
		}
	})
}

// PRG-56: a panic in a hook is 500 without its detail, and the registry goes on.
func TestPanicInHook(t *testing.T) {
	panics := true
	s := newServer(t, poolregistry.Config{Active: func(poolregistry.NodeID) map[poolregistry.PoolID]int {
		if panics {
			panic("secret in a hook")
		}
		return nil
	}}, "root")
	s.register("a")
	res := s.do("node", beatA, s.beat("a"))
	if body, _ := io.ReadAll(res.Body); res.StatusCode != http.StatusInternalServerError || strings.Contains(string(body), "secret") {
		t.Errorf("%s %s", res.Status, body)
	}
	panics = false
	if res := s.do("node", beatA, s.beat("a")); res.StatusCode != http.StatusOK {
		t.Errorf("the next beat: %s", res.Status)
	}
}

// PRG-56: a path that the mux would rewrite is not known, and no redirect tells a
// stranger more.
func TestUncleanPath(t *testing.T) {
	for _, mount := range []string{"root", "prefix"} {
		s := newServer(t, poolregistry.Config{}, mount)
		for _, path := range []string{"//v2/nodes", "/v2//nodes", "/v2/./nodes", "/v2/x/../nodes", "/v2/nodes/"} {
			if res := s.do("", "GET "+path, ""); res.StatusCode != http.StatusNotFound || res.Header.Get("Location") != "" {
				t.Errorf("%s %s: %s %q", mount, path, res.Status, res.Header.Get("Location"))
			}
		}
	}
}

// PRG-54: New without its parts is an error that names all of them.
func TestNewNeedsItsParts(t *testing.T) {
	if _, err := nodehttp.New(nodehttp.Config{}); err == nil || !strings.Contains(err.Error(), "Registry") || !strings.Contains(err.Error(), "Authorize") {
		t.Errorf("New = %v", err)
	}
}
