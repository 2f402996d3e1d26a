package inputvalidation_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/llorch/llorch/inputvalidation"
	"pgregory.net/rapid"
)

const (
	sha    = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	commit = "0123456789abcdef0123456789abcdef01234567"
)

// parts renders what the accessors say, in a fixed order.
func parts(m inputvalidation.ModelRef) string {
	var b strings.Builder
	for _, p := range [][2]string{
		{"name", m.Name()},
		{"tag", m.Tag()},
		{"owner", m.Owner()},
		{"repo", m.Repo()},
		{"rev", m.Revision()},
		{"variant", m.Variant()},
		{"host", m.Host()},
		{"port", m.Port()},
		{"path", m.Path()},
		{"digest", m.Digest()},
	} {
		if p[1] != "" {
			fmt.Fprintf(&b, " %s=%s", p[0], p[1])
		}
	}
	if m.Pinned() {
		b.WriteString(" pinned")
	}
	return string(m.Scheme()) + b.String()
}

// VAL-23, VAL-24: every row of the grammar, accepted.
func TestParseModelRef(t *testing.T) {
	for _, c := range []struct{ in, canonical, parts string }{
		{"llama3", "llama3", "name name=llama3"},
		{"llama3:8b", "llama3:8b", "name name=llama3 tag=8b"},
		{"foo:bar", "foo:bar", "name name=foo tag=bar"},
		{"a..b", "a..b", "name name=a..b"},
		{"llama3#sha256=" + sha, "llama3#sha256=" + sha, "name name=llama3 digest=" + sha + " pinned"},
		{"a/b", "hf:a/b", "hf owner=a repo=b"},
		{"hf:a/b", "hf:a/b", "hf owner=a repo=b"},
		{"hf://a/b", "hf:a/b", "hf owner=a repo=b"},
		{"hf:a/b@main", "hf:a/b@main", "hf owner=a repo=b rev=main"},
		{"a/b@" + commit, "hf:a/b@" + commit, "hf owner=a repo=b rev=" + commit + " pinned"},
		{"a/b@" + strings.ToUpper(commit), "hf:a/b@" + strings.ToUpper(commit), "hf owner=a repo=b rev=" + strings.ToUpper(commit)},
		{"a/b:Q4_K_M", "hf:a/b:Q4_K_M", "hf owner=a repo=b variant=Q4_K_M"},
		{"a/b@v1:q8/dir/m.gguf", "hf:a/b@v1:q8::file=dir/m.gguf", "hf owner=a repo=b rev=v1 variant=q8 path=dir/m.gguf"},
		{"hf:a/b@v1::file=m.gguf", "hf:a/b@v1::file=m.gguf", "hf owner=a repo=b rev=v1 path=m.gguf"},
		{"a/b/c@d", "hf:a/b::file=c@d", "hf owner=a repo=b path=c@d"},
		{"_a/b_", "hf:_a/b_", "hf owner=_a repo=b_"},
		{"file:m.gguf", "file:m.gguf", "file path=m.gguf"},
		{"file:dir/m.gguf#sha256=" + sha, "file:dir/m.gguf#sha256=" + sha, "file path=dir/m.gguf digest=" + sha + " pinned"},
		{"https://Example.COM/m.gguf", "https://example.com/m.gguf", "https host=example.com path=m.gguf"},
		{"https://a.b:443/x/y", "https://a.b/x/y", "https host=a.b path=x/y"},
		{"https://a.b:8443/x~y+=@z", "https://a.b:8443/x~y+=@z", "https host=a.b port=8443 path=x~y+=@z"},
		{"https://1.2.3.com/x", "https://1.2.3.com/x", "https host=1.2.3.com path=x"},
	} {
		m, err := inputvalidation.ParseModelRef("model", c.in)
		if err != nil {
			t.Errorf("ParseModelRef(%q) = %v", c.in, err)
			continue
		}
		if m.String() != c.canonical || parts(m) != c.parts || m.IsZero() {
			t.Errorf("ParseModelRef(%q) = %s (%s), want %s (%s)", c.in, m, parts(m), c.canonical, c.parts)
		}
		if again, err := inputvalidation.ParseModelRef("model", m.String()); again != m || err != nil {
			t.Errorf("ParseModelRef(%q) again = %v, %v", m, again, err)
		}
	}
}

// VAL-23, VAL-24: every row of the grammar, broken once per rule.
func TestParseModelRefRefuses(t *testing.T) {
	const (
		charset   = inputvalidation.RuleCharset
		syntax    = inputvalidation.RuleSyntax
		scheme    = inputvalidation.RuleScheme
		traversal = inputvalidation.RuleTraversal
		long      = inputvalidation.RuleTooLong
		address   = inputvalidation.RuleAddress
	)
	n := strings.Repeat
	for _, c := range []struct {
		in   string
		rule inputvalidation.Rule
	}{
		{"a b", charset},
		{"a%2e", charset},
		{`a\b`, charset},
		{"a\u00e9", charset},
		{"a\x7f", charset},
		{n("a", 513), long},
		{n("a", 97), long},
		{"-a", syntax},
		{".a", syntax},
		{"_a", syntax},
		{"..", traversal},
		{"con", syntax},
		{"hf", scheme},
		{"HTTPS", scheme},
		{"a:", scheme},
		{"a:b:c", scheme},
		{"a:.b", scheme},
		{"a#", syntax},
		{"a#main", syntax},
		{"a#sha256=" + sha[1:], syntax},
		{"a#sha256=" + strings.ToUpper(sha), syntax},
		{"a#sha256=" + sha + "#", syntax},
		{"a/", syntax},
		{"/a", syntax},
		{"a//b", syntax},
		{"./a", traversal},
		{"../a", traversal},
		{"a/..", traversal},
		{"a/../b", traversal},
		{"a/b/../c", traversal},
		{"a/b/c/", syntax},
		{"a/b/", syntax},
		{"a/b::file=", syntax},
		{"a/b::file=/c", traversal},
		{"a/b::path=c", syntax},
		{"a/b@", syntax},
		{"a/b@-x", syntax},
		{"a/b@..", traversal},
		{"a/b@x@y", charset},
		{"a/b@" + n("r", 129), long},
		{"a/b:" + n("v", 33), long},
		{"a/b:v:w", syntax},
		{"a/b:", syntax},
		{"a--b/c", syntax},
		{"a/b--c", syntax},
		{"a/b..c", traversal},
		{"-a/b", syntax},
		{"a/b-", syntax},
		{"a./b", syntax},
		{"a/.b", syntax},
		{"a/b.git", syntax},
		{"a/b.IPYNB", syntax},
		{"a/" + n("b", 97), long},
		{"aux/b", syntax},
		{"a/b/nul.gguf", syntax},
		{"a/b/-rf", syntax},
		{"hf:a", syntax},
		{"hf:", syntax},
		{"hf:///a/b", syntax},
		{"file:", syntax},
		{"file:/etc/passwd", traversal},
		{"file:///etc/passwd", traversal},
		{"file:../m", traversal},
		{"file:a/", syntax},
		{"file:C:x", charset},
		{"http://a.b/c", scheme},
		{"s3://bucket/key", scheme},
		{"oci://a.b/c", scheme},
		{"HTTPS://a.b/c", scheme},
		{"foo:bar/baz", scheme},
		{"https:a.b/c", syntax},
		{"https://a.b", syntax},
		{"https://a.b/", syntax},
		{"https:///c", syntax},
		{"https://localhost/c", address},
		{"https://127.0.0.1/c", address},
		{"https://127.1/c", address},
		{"https://a.0x7f/c", address},
		{"https://[::1]/c", charset},
		{"https://a.b:/c", syntax},
		{"https://a.b:0/c", syntax},
		{"https://a.b:080/c", syntax},
		{"https://a.b:65536/c", syntax},
		{"https://a.b:+80/c", syntax},
		{"https://user@a.b/c", charset},
		{"https://a_b.c/d", charset},
		{"https://-a.b/c", charset},
		{"https://a-.b/c", charset},
		{"https://a..b/c", syntax},
		{"https://a.b./c", syntax},
		{"https://" + n("a", 64) + ".b/c", long},
		{"https://" + n("a.", 127) + "b/c", long},
		{"https://a.b/c?d", charset},
		{"https://a.b/c//d", syntax},
		{"https://a.b/../d", traversal},
		{"https://a.b/-d", syntax},
		{n("a", 96) + "/" + n("b", 96) + "/" + n("c", 255) + "/" + n("d", 512-96-96-2-256), long}, // only its canonical form is too long
	} {
		m, err := inputvalidation.ParseModelRef("model", c.in)
		wantRule(t, fmt.Sprintf("ParseModelRef(%q)", c.in), err, c.rule)
		if !m.IsZero() {
			t.Errorf("ParseModelRef(%q) returns %v beside its error", c.in, m)
		}
	}
}

// Lengths: one below, at and above each limit.
func TestModelRefLimits(t *testing.T) {
	n := strings.Repeat
	for _, s := range []string{n("a", 95), n("a", 96), "a:" + n("b", 96), n("a", 96) + "/" + n("b", 96), "a/b@" + n("r", 128), "a/b:" + n("v", 32), "https://" + n("a", 63) + ".b/c", "https://" + n("a.", 126) + "b/c", "file:" + n("a", 255) + "/" + n("b", 251)} {
		if _, err := inputvalidation.ParseModelRef("model", s); err != nil {
			t.Errorf("ParseModelRef(%d bytes) = %v", len(s), err)
		}
	}
	_, err := inputvalidation.ParseModelRef("model", "file:"+n("a", 255)+"/"+n("b", 252))
	if e := wantRule(t, "ParseModelRef(513 bytes)", err, inputvalidation.RuleTooLong); e.Limit != 512 || e.Actual != 513 {
		t.Errorf("limit %d, actual %d, want 512, 513", e.Limit, e.Actual)
	}
	_, err = inputvalidation.ParseModelRef("model", "https://example.org/a/..")
	if e := wantRule(t, "ParseModelRef", err, inputvalidation.RuleTraversal); e.Offset != 22 {
		t.Errorf("offset = %d, want 22: offsets count from the start of the reference", e.Offset)
	}
	_, err = inputvalidation.ParseModelRef("model", "file:a/-b")
	if e := wantRule(t, "ParseModelRef", err, inputvalidation.RuleSyntax); e.Offset != 7 {
		t.Errorf("offset = %d, want 7", e.Offset)
	}
}

// VAL-25
func TestHostAllowed(t *testing.T) {
	for _, c := range []struct {
		host    string
		pattern string
		want    bool
	}{
		{"example.com", "example.com", true},
		{"example.com", "EXAMPLE.com", true},
		{"a.example.com", "example.com", false},
		{"a.example.com", "*.example.com", true},
		{"b.a.example.com", "*.Example.com", true},
		{"example.com", "*.example.com", false},
		{"badexample.com", "*.example.com", false},
		{"badexample.com", "*example.com", false},
		{"example.com", "*example.com", false},
		{"example.com", "*", false},
		{"example.com", "*.", false},
		{"example.com", "", false},
	} {
		m, err := inputvalidation.ParseModelRef("model", "https://"+c.host+":8443/m")
		if err != nil {
			t.Fatal(err)
		}
		if got := m.HostAllowed([]string{"other.org", c.pattern}); got != c.want {
			t.Errorf("%s HostAllowed(%q) = %v, want %v", c.host, c.pattern, got, c.want)
		}
		if m.HostAllowed(nil) {
			t.Errorf("%s: an empty list allows", c.host)
		}
	}
	hf, err := inputvalidation.ParseModelRef("model", "a/b")
	if err != nil || hf.HostAllowed([]string{"", "*."}) {
		t.Errorf("a reference without host is allowed")
	}
}

// VAL-5: comparable, text round trip, zero.
func TestModelRefText(t *testing.T) {
	type doc struct {
		M inputvalidation.ModelRef `json:"m,omitzero"`
	}
	var d doc
	if out, err := json.Marshal(d); string(out) != `{}` || err != nil {
		t.Errorf("Marshal(zero) = %s, %v", out, err)
	}
	if err := json.Unmarshal([]byte(`{"m":"hf://a/b/c"}`), &d); err != nil {
		t.Fatal(err)
	}
	want, _ := inputvalidation.ParseModelRef("model", "a/b::file=c")
	if d.M != want {
		t.Errorf("Unmarshal = %v, want %v", d.M, want)
	}
	if out, err := json.Marshal(d); string(out) != `{"m":"hf:a/b::file=c"}` || err != nil {
		t.Errorf("Marshal = %s, %v", out, err)
	}
	before := d.M
	if err := d.M.UnmarshalText([]byte("http://x")); err == nil || d.M != before {
		t.Errorf("UnmarshalText(bad) = %v and changes the value to %v", err, d.M)
	}
	if err := d.M.UnmarshalText(nil); err == nil {
		t.Error("UnmarshalText(empty) = nil")
	}
}

// modelRefLaws holds for every text: accepted means canonical round trip and no
// segment that climbs.
func modelRefLaws(t failer, s string) {
	m, err := inputvalidation.ParseModelRef("f", s)
	if err != nil {
		if !m.IsZero() {
			t.Fatalf("ParseModelRef(%q) returns a value beside %v", s, err)
		}
		return
	}
	if again, err := inputvalidation.ParseModelRef("f", m.String()); err != nil || again != m {
		t.Fatalf("ParseModelRef(%q) = %q, again %q, %v", s, m, again, err)
	}
	segs := append(strings.Split(m.Path(), "/"), m.Name(), m.Tag(), m.Owner(), m.Repo(), m.Revision(), m.Variant(), m.Host())
	for _, seg := range segs {
		if seg == "." || seg == ".." || strings.HasPrefix(seg, "-") {
			t.Fatalf("ParseModelRef(%q) has the segment %q", s, seg)
		}
	}
	if inputvalidation.Escape(m.String()) != m.String() {
		t.Fatalf("ParseModelRef(%q) = %q", s, m)
	}
}

func TestModelRefLaws(t *testing.T) {
	word := rapid.SampledFrom([]string{"a", "B9", "..", ".", "-x", "nul", "main", commit, "Q4_K_M", "x.gguf", "a.git", "_", "a--b", "localhost", "10", ""})
	glue := rapid.SampledFrom([]string{"/", "//", ":", "@", "::file=", "#sha256=" + sha, ".", "hf:", "https://", "file:", ":443/", ""})
	rapid.Check(t, func(t *rapid.T) {
		var b strings.Builder
		for range rapid.IntRange(1, 6).Draw(t, "n") {
			b.WriteString(glue.Draw(t, "glue"))
			b.WriteString(word.Draw(t, "word"))
		}
		modelRefLaws(t, b.String())
	})
}

func FuzzModelRef(f *testing.F) {
	for _, s := range []string{"llama3:8b", "hf://a/b@main:q8/m.gguf", "a/b::file=c", "file:a/b", "https://a.b:8443/c#sha256=" + sha, "file:///x", "a/../b", "https://127.1/x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) { modelRefLaws(t, s) })
}
