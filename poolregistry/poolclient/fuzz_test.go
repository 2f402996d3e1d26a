package poolclient_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/poolregistry/nodeapi"
	"github.com/llorch/llorch/poolregistry/poolclient"
)

// FuzzAnswer: whatever a node answers, the result is one of the documented kinds,
// and an error repeats nothing of it but a code that is an identifier (PRG-71).
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{
		`{"id":"o","kind":"drain","state":"done","result":{"forced":true}}`, `{"error":{"code":"POOL_UNREADY","retry_after_ms":-1}}`,
		`{"error":{"code":"\n"}}`, `{"error":{"code":"POOL","retry_after_ms":9223372036854775807}}`, `[`, `null`, ``, `<html>`,
	} {
		f.Add(200, s)
		f.Add(202, s)
		f.Add(500, s)
	}
	c, err := poolclient.New(poolclient.Config{Token: func() string { return "t" }, Address: loopback()})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, status int, body string) {
		c.SetTransport(way(func(*http.Request) (*http.Response, error) { return reply(status, body), nil }))
		r, op, err := c.Preload(t.Context(), "http://127.0.0.1:9200", "p", nodeapi.PreloadRequest{})
		if err == nil {
			if status/100 != 2 || (r == nil) == (op == nil) {
				t.Errorf("%d: %v, %v", status, r, op)
			}
			return
		}
		if len(body) > 40 && strings.Contains(err.Error(), body) {
			t.Error("the error repeats the answer")
		}
		if e, ok := errors.AsType[*poolclient.APIError](err); ok {
			if e.RetryAfter < 0 || e.Code != "" && inputvalidation.CheckIdentifier("code", string(e.Code), inputvalidation.IdentRules{Max: 64, Extra: "_"}) != nil {
				t.Errorf("error %+v", e)
			}
		} else if status/100 != 2 {
			t.Errorf("%d: %v", status, err)
		}
	})
}
