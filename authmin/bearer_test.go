package authmin_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/llorch/llorch/authmin"
	"pgregory.net/rapid"
)

// bearerRow is one value of the field and what becomes of it.
type bearerRow struct {
	field, token string
	err          error
}

// bearerRows reads testdata/bearer.tsv, and adds the longest values.
func bearerRows(t testing.TB) []bearerRow {
	long := strings.Repeat("a", 8192)
	out := []bearerRow{
		{"Bearer " + long, long, nil},
		{"Bearer " + long[:8190] + "==", long[:8190] + "==", nil},
		{"Bearer " + long + "a", "", authmin.ErrMalformed},
		{"Bearer " + long + "=", "", authmin.ErrMalformed},
		{"Basic " + long + "aa", "", authmin.ErrMalformed}, // refused before any scan
	}
	for _, cols := range tsv(t, "bearer.tsv") {
		row := bearerRow{field: unquoted(t, cols[0])}
		switch cols[1] {
		case "ok":
			row.token = cols[2]
		case "missing":
			row.err = authmin.ErrMissing
		case "malformed":
			row.err = authmin.ErrMalformed
		default:
			t.Fatalf("bearer.tsv: %s", cols)
		}
		out = append(out, row)
	}
	return out
}

// AUTH-1, AUTH-2
func TestParseBearer(t *testing.T) {
	for _, c := range bearerRows(t) {
		tok, err := authmin.ParseBearer(c.field)
		if !errors.Is(err, c.err) || tok.Reveal() != c.token {
			t.Errorf("ParseBearer(%.40q) = %.40q, %v, want %.40q, %v", c.field, tok.Reveal(), err, c.token, c.err)
		}
	}
}

// AUTH-2: at most one small allocation, whatever arrives.
func TestParseBearerAllocs(t *testing.T) {
	for _, c := range bearerRows(t) {
		if n := testing.AllocsPerRun(20, func() { _, _ = authmin.ParseBearer(c.field) }); n > 1 {
			t.Errorf("ParseBearer(%.40q) makes %v allocations, want at most 1", c.field, n)
		}
	}
	const runs = 100
	field := "Bearer " + strings.Repeat("a", 8192)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range runs {
		_, _ = authmin.ParseBearer(field)
	}
	runtime.ReadMemStats(&after)
	if n := (after.TotalAlloc - before.TotalAlloc) / runs; n > 1024 {
		t.Errorf("ParseBearer of a token of 8192 bytes allocates %d, a copy of it", n)
	}
}

// AUTH-2 over HTTP/1.1 and HTTP/2: every value that a client can send. Blanks
// around a value are no part of it there.
func TestBearerOverHTTP(t *testing.T) {
	gate := newGate(t, authmin.Config{Keys: anyToken{}})
	for _, srv := range bothProtocols(t, gate.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))) {
		for _, c := range bearerRows(t) {
			if c.field != strings.Trim(c.field, " \t") || strings.ContainsAny(c.field, "\x00\n\x7f") {
				continue
			}
			want, challenge := http.StatusOK, ""
			switch c.err {
			case authmin.ErrMissing:
				want, challenge = http.StatusUnauthorized, `Bearer realm="llorch"`
			case authmin.ErrMalformed:
				want, challenge = http.StatusUnauthorized, `Bearer realm="llorch", error="invalid_request"`
			}
			resp, _ := srv.do(t, http.MethodGet, "/v2/tasks", http.Header{"Authorization": {c.field}})
			if resp.StatusCode != want || resp.Header.Get("WWW-Authenticate") != challenge {
				t.Errorf("%s: %.40q = %d %s, want %d %s", resp.Proto, c.field, resp.StatusCode, resp.Header["Www-Authenticate"], want, challenge)
			}
		}
	}
}

// anyToken accepts every well-formed token.
type anyToken struct{}

func (anyToken) Verify(context.Context, authmin.Token) (authmin.Principal, error) {
	return authmin.Principal{Name: "any"}, nil
}

// AUTH-3: one field of that name and nothing else; the errors carry no input.
func TestFromRequest(t *testing.T) {
	for name, c := range map[string]struct {
		set  func(*http.Request)
		want error
	}{
		"none":      {func(*http.Request) {}, authmin.ErrMissing},
		"one":       {func(r *http.Request) { r.Header.Set("Authorization", "Bearer abc") }, nil},
		"two":       {func(r *http.Request) { r.Header["Authorization"] = []string{"Bearer abc", "Bearer abc"} }, authmin.ErrMalformed},
		"two kinds": {func(r *http.Request) { r.Header["Authorization"] = []string{"Bearer abc", "Basic abc"} }, authmin.ErrMalformed},
		"query":     {func(r *http.Request) { r.URL.RawQuery = "access_token=abc&token=abc" }, authmin.ErrMissing},
		"cookie":    {func(r *http.Request) { r.AddCookie(&http.Cookie{Name: "token", Value: "abc"}) }, authmin.ErrMissing},
		"proxy":     {func(r *http.Request) { r.Header.Set("Proxy-Authorization", "Bearer abc") }, authmin.ErrMissing},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://h/", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		c.set(r)
		tok, err := authmin.FromRequest(r)
		if !errors.Is(err, c.want) || (err == nil) != (tok.Reveal() == "abc") {
			t.Errorf("%s: FromRequest = %v, want %v", name, err, c.want)
		}
		if err != nil && (!errors.Is(fmt.Errorf("outer: %w", err), c.want) || err.Error() != c.want.Error()) {
			t.Errorf("%s: FromRequest = %v, want the sentinel itself", name, err)
		}
	}
}

// abnf recognises the fields of AUTH-1, rule by rule of the grammar
//
//	field   = scheme SP token68
//	scheme  = "Bearer" in any letter case
//	token68 = 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="
//
// and returns the token.
func abnf(field string) (token string, ok bool) {
	for i, c := range []byte("bearer") {
		if len(field) <= i || field[i]|0x20 != c {
			return "", false
		}
	}
	if token, ok = strings.CutPrefix(field[6:], " "); !ok || len(token) > 8192 {
		return "", false
	}
	i := 0
	for i < len(token) && strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/", rune(token[i])) {
		i++
	}
	start := i
	for i < len(token) && token[i] == '=' {
		i++
	}
	return token, start > 0 && i == len(token)
}

func parserLaw(t interface{ Fatalf(string, ...any) }, field string) {
	tok, err := authmin.ParseBearer(field)
	token, want := abnf(field)
	if (err == nil) != want || want && tok.Reveal() != token {
		t.Fatalf("ParseBearer(%q) = %v, the grammar says accepted %v", field, err, want)
	}
	if err != nil && !errors.Is(err, authmin.ErrMissing) && !errors.Is(err, authmin.ErrMalformed) {
		t.Fatalf("ParseBearer(%q) = %v", field, err)
	}
}

func TestParseBearerLaw(t *testing.T) {
	piece := rapid.SampledFrom([]string{"Bearer", "bearer", " ", "\t", "=", "==", "abc", "~", ",", "Basic", "\u00e9", "x"})
	rapid.Check(t, func(t *rapid.T) {
		parserLaw(t, strings.Join(rapid.SliceOfN(piece, 0, 6).Draw(t, "pieces"), ""))
		tok := rapid.StringMatching(`[A-Za-z0-9\-._~+/]{1,60}={0,3}`).Draw(t, "token")
		got, err := authmin.ParseBearer("Bearer " + tok)
		if err != nil || got.Reveal() != tok {
			t.Fatalf("ParseBearer(Bearer %s) = %v", tok, err)
		}
	})
}

func FuzzParseBearer(f *testing.F) {
	for _, c := range bearerRows(f) {
		if len(c.field) < 100 { // long seeds only make it slow
			f.Add(c.field)
		}
	}
	f.Fuzz(func(t *testing.T, field string) { parserLaw(t, field) })
}
