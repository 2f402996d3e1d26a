package authmin_test

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/llorch/llorch/authmin"
)

// BenchmarkVerify measures a set of keys beside the least that has to be done:
// hash the token once and compare the digest with every one by
// ConstantTimeCompare.
func BenchmarkVerify(b *testing.B) {
	for _, n := range []int{1, 1000} {
		keys, digests := make([]authmin.Key, n), make([][sha256.Size]byte, n)
		for i := range keys {
			keys[i] = authmin.Key{Name: fmt.Sprintf("k%04d", i), Token: authmin.Generate("b")}
			digests[i] = sha256.Sum256([]byte(keys[i].Token.Reveal()))
		}
		set := keySet(b, keys...)
		verify := func(name string, tok authmin.Token, live bool) {
			b.Run(name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := set.Verify(b.Context(), tok); (err == nil) != live {
						b.Fatal(err)
					}
				}
			})
		}
		prefix := fmt.Sprintf("keys=%d/", n)
		verify(prefix+"first", keys[0].Token, true)
		if n > 1 {
			verify(prefix+"last", keys[n-1].Token, true)
			verify(prefix+"none", authmin.Generate("b"), false)
		}
		b.Run(prefix+"bare", func(b *testing.B) {
			raw := []byte(keys[n-1].Token.Reveal())
			for b.Loop() {
				sum, hits := sha256.Sum256(raw), 0
				for i := range digests {
					hits += subtle.ConstantTimeCompare(sum[:], digests[i][:])
				}
				if hits != 1 {
					b.Fatal("no match")
				}
			}
		})
	}
}

// BenchmarkGate measures the way of a request with the fields of a common
// client through a gate, beside the bare handler.
func BenchmarkGate(b *testing.B) {
	tok := authmin.Generate("demo")
	gate := newGate(b, authmin.Config{Keys: keySet(b, authmin.Key{Name: "laptop", Token: tok})})
	bare := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	h := bearerHeader(tok.Reveal())
	for name, value := range map[string]string{"Accept": "*/*", "Accept-Encoding": "gzip", "Content-Length": "512", "Content-Type": "application/json", "User-Agent": "client/1"} {
		h.Set(name, value)
	}
	allowed, refused, w := call{header: h}.request(b), call{}.request(b), httptest.NewRecorder()
	for _, c := range []struct {
		name string
		http.Handler
		*http.Request
	}{{"allow", gate.Wrap(bare), allowed}, {"refuse", gate.Wrap(bare), refused}, {"bare", bare, allowed}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				w.Body.Reset()
				c.ServeHTTP(w, c.Request)
			}
		})
	}
}

// BenchmarkParseBearer measures the parser on the field of a common client.
func BenchmarkParseBearer(b *testing.B) {
	field := "Bearer " + authmin.Generate("demo").Reveal()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := authmin.ParseBearer(field); err != nil {
			b.Fatal(err)
		}
	}
}
