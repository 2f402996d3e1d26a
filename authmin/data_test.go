package authmin_test

import (
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// tsv reads the rows of a table in testdata; lines that begin with # are
// comments.
func tsv(t testing.TB, name string) (rows [][]string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "#") {
			rows = append(rows, strings.Split(strings.TrimSuffix(line, "\n"), "\t"))
		}
	}
	if len(rows) < 10 {
		t.Fatalf("%s has %d rows", name, len(rows))
	}
	return rows
}

func unquoted(t testing.TB, literal string) string {
	t.Helper()
	s, err := strconv.Unquote(literal)
	if err != nil {
		t.Fatalf("%s: %v", literal, err)
	}
	return s
}

// server is a real one, with a client that speaks its protocol.
type server struct {
	*httptest.Server
	major int // of the protocol
}

// bothProtocols serves h over HTTP/1.1 and over HTTP/2.
func bothProtocols(t *testing.T, h http.Handler) (out []server) {
	t.Helper()
	for major := 1; major <= 2; major++ {
		srv := httptest.NewUnstartedServer(h)
		srv.EnableHTTP2 = major == 2
		srv.StartTLS()
		t.Cleanup(srv.Close)
		out = append(out, server{srv, major})
	}
	return out
}

// do sends a request with the fields, among them perhaps Host, and returns the
// answer with its body.
func (s server) do(t *testing.T, method, target string, fields http.Header) (*http.Response, string) {
	t.Helper()
	r := request(t, method, s.URL+target, http.NoBody)
	maps.Copy(r.Header, fields)
	r.Host = fields.Get("Host")
	resp, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.ProtoMajor != s.major {
		t.Fatalf("%s %s: %v, protocol %s, want HTTP/%d", method, target, err, resp.Proto, s.major)
	}
	return resp, string(body)
}
