package deadline_test

import (
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/llorch/llorch/deadline"
)

// FuzzXDeadline compares with strconv and time.Parse: whatever is accepted means
// what they say.
func FuzzXDeadline(f *testing.F) {
	for _, row := range rows(f, "xdeadline.tsv") {
		f.Add(row[0])
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := deadline.FromHeader(http.Header{"X-Deadline": {s}}, newYear)
		if err != nil {
			if _, ok := errors.AsType[*deadline.FormatError](err); !ok {
				t.Fatalf("error %T", err)
			}
			return
		}
		want, err := time.Parse(time.RFC3339Nano, s)
		if ms, bad := strconv.ParseInt(s, 10, 64); bad == nil {
			want, err = time.UnixMilli(ms), nil
		}
		if err != nil || !newYear.Add(want.Sub(newYear)).Equal(d.Time()) || d.Wire() != s {
			t.Fatalf("%q = %v, want %v, %v", s, d.Time(), want, err)
		}
	})
}

// FuzzGRPC compares with a naive parser in arbitrary precision.
func FuzzGRPC(f *testing.F) {
	for _, row := range rows(f, "grpc.tsv") {
		f.Add(row[0])
	}
	units := map[string]int64{"H": 3600e9, "M": 60e9, "S": 1e9, "m": 1e6, "u": 1e3, "n": 1}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := deadline.FromHeader(http.Header{"Grpc-Timeout": {s}}, newYear)
		var want *big.Int
		if n := len(s); n >= 2 && n <= 9 && strings.Trim(s[:n-1], "0123456789") == "" && units[s[n-1:]] != 0 {
			want, _ = new(big.Int).SetString(s[:n-1], 10)
			want.Mul(want, big.NewInt(units[s[n-1:]]))
		}
		if (want == nil) != (err != nil) {
			t.Fatalf("%q: %v, want %v", s, err, want)
		}
		if want != nil && want.IsInt64() && d.Time().Sub(newYear) != time.Duration(want.Int64()) {
			t.Fatalf("%q = %v, want %v", s, d.Time().Sub(newYear), want)
		}
	})
}

// FuzzFromHeader sends any headers through the middleware: 200 with at most Max
// left, 504, or 400, and never a panic.
func FuzzFromHeader(f *testing.F) {
	f.Add("1767225605000", "5", "5S", false)
	f.Add("9999-12-31T23:59:59Z", "9999999999", "99999999H", true)
	f.Add("", "", "", false)
	m, err := deadline.New(deadline.Config{Max: time.Minute})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, abs, rel, grpc string, twice bool) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		for key, value := range map[string]string{"X-Deadline": abs, "X-Request-Timeout-Ms": rel, "Grpc-Timeout": grpc} {
			if value != "" {
				r.Header.Add(key, value)
			}
			if twice && value != "" {
				r.Header.Add(key, value)
			}
		}
		stated, w := len(r.Header) > 0, httptest.NewRecorder()
		m.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if d, ok := deadline.From(r.Context()); ok != stated || ok && d.Remaining() > time.Minute {
				t.Errorf("%v left, stated %v", d.Remaining(), stated)
			}
		})).ServeHTTP(w, r)
		if w.Code != 200 && w.Code != 504 && w.Code != 400 || twice && stated && w.Code != 400 {
			t.Errorf("status %d", w.Code)
		}
	})
}
