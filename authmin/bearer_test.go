package authmin_test

import (
	"errors"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/llorch/llorch/authmin"
	"pgregory.net/rapid"
)

// AUTH-1, AUTH-2
func TestParseBearer(t *testing.T) {
	long := strings.Repeat("a", 8192)
	for _, c := range []struct {
		field string
		want  string
		err   error
	}{
		{field: "Bearer abc", want: "abc"},
		{field: "bEARER a-._~+/=", want: "a-._~+/="},
		{field: "bearer a==", want: "a=="},
		{field: "Bearer " + long, want: long},
		{field: "Bearer " + long + "a", err: authmin.ErrMalformed},
		{field: "Basic " + long + "aa", err: authmin.ErrMalformed},
		{field: "", err: authmin.ErrMissing},
		{field: " \t ", err: authmin.ErrMissing},
		{field: "Basic abc", err: authmin.ErrMissing},
		{field: "Bearerx abc", err: authmin.ErrMissing},
		{field: "Bearer-token abc", err: authmin.ErrMissing},
		{field: "Bear", err: authmin.ErrMissing},
		{field: "Bearer", err: authmin.ErrMalformed},
		{field: "Bearer ", err: authmin.ErrMalformed},
		{field: "Bearer\tabc", err: authmin.ErrMalformed},
		{field: "Bearer  abc", err: authmin.ErrMalformed},
		{field: " Bearer abc", err: authmin.ErrMalformed},
		{field: "Bearer abc ", err: authmin.ErrMalformed},
		{field: "Bearer a b", err: authmin.ErrMalformed},
		{field: "Bearer a,b", err: authmin.ErrMalformed},
		{field: "Bearer a=b", err: authmin.ErrMalformed},
		{field: "Bearer =", err: authmin.ErrMalformed},
		{field: "Bearer ===", err: authmin.ErrMalformed},
		{field: "Bearer a\x00", err: authmin.ErrMalformed},
		{field: "Bearer a\n", err: authmin.ErrMalformed},
		{field: "Bearer \u00e9", err: authmin.ErrMalformed},
		{field: "Bearer \xff", err: authmin.ErrMalformed},
		{field: "Bearer\xff", err: authmin.ErrMalformed},
		{field: "Bearer,abc", err: authmin.ErrMalformed},
	} {
		tok, err := authmin.ParseBearer(c.field)
		if !errors.Is(err, c.err) || tok.Reveal() != c.want {
			t.Errorf("ParseBearer(%.40q) = %q, %v, want %q, %v", c.field, tok.Reveal(), err, c.want, c.err)
		}
	}
}

// AUTH-3
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
	}
}

// abnf recognises the fields of AUTH-1 by its grammar.
var abnf = regexp.MustCompile(`^(?i:bearer) ([A-Za-z0-9\-._~+/]+=*)$`)

func parserLaw(t interface{ Fatalf(string, ...any) }, field string) {
	tok, err := authmin.ParseBearer(field)
	m := abnf.FindStringSubmatch(field)
	want := m != nil && !strings.HasSuffix(field, "\n") && len(m[1]) <= 8192
	if (err == nil) != want || want && tok.Reveal() != m[1] {
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
	for _, s := range []string{"Bearer abc", "bearer a==", "Basic x", "Bearer  a", "Bearer", " Bearer a", "Bearer \xff", "Bearer ="} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, field string) { parserLaw(t, field) })
}
