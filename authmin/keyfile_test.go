package authmin_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llorch/llorch/authmin"
)

const (
	tokenA = "llorch_AAAABBBBCCCCDDDDEEEEFFFFGGGGHHHH"
	tokenB = "llorch_IIIIJJJJKKKKLLLLMMMMNNNNOOOOPPPP"
)

// shown writes keys in one line each.
func shown(keys []authmin.Key) string {
	var out strings.Builder
	for _, k := range keys {
		fmt.Fprintf(&out, "%s %s", k.Name, k.Token.Reveal())
		if !k.NotAfter.IsZero() {
			fmt.Fprintf(&out, " until %s", k.NotAfter.Format(time.RFC3339Nano))
		}
		if len(k.Tags) > 0 {
			fmt.Fprintf(&out, " %q", k.Tags)
		}
		out.WriteString("\n")
	}
	return out.String()
}

// AUTH-14: what a key file may hold.
func TestParseKeys(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"one token":          {tokenA, "api " + tokenA + "\n"},
		"LF":                 {tokenA + "\n", "api " + tokenA + "\n"},
		"CRLF":               {"\r\n" + tokenA + "\r\n# end\r\n", "api " + tokenA + "\n"},
		"list":               {tokenA + "," + tokenB, "api " + tokenA + "\napi " + tokenB + "\n"},
		"name":               {"web " + tokenA, "web " + tokenA + "\n"},
		"until":              {"web " + tokenA + " 2030-01-02T03:04:05Z", "web " + tokenA + " until 2030-01-02T03:04:05Z\n"},
		"until with offset":  {"web " + tokenA + " 2030-01-02T03:04:05.5+02:00", "web " + tokenA + " until 2030-01-02T01:04:05.5Z\n"},
		"tags":               {tokenA + " tags=tenant.acme", "api " + tokenA + " [\"tenant.acme\"]\n"},
		"list with tags":     {tokenA + "," + tokenB + " tags=a,b", "api " + tokenA + " [\"a\" \"b\"]\napi " + tokenB + " [\"a\" \"b\"]\n"},
		"name and tags":      {"web " + tokenA + " tags=user:eva@x,role.admin", "web " + tokenA + " [\"user:eva@x\" \"role.admin\"]\n"},
		"all":                {"web " + tokenA + " 2030-01-02T03:04:05Z tags=a", "web " + tokenA + " until 2030-01-02T03:04:05Z [\"a\"]\n"},
		"comments, blanks":   {"# the first\n\n" + tokenA + "\n# über\n#" + tokenB + "\nweb " + tokenB + "\n\n", "api " + tokenA + "\nweb " + tokenB + "\n"},
		"token68":            {"a-._~+/z==", "api a-._~+/z==\n"},
		"names of any shape": {"A.b_c-9 x", "A.b_c-9 x\n"},
	} {
		keys, err := authmin.ParseKeys([]byte(c.text), "api")
		if got := shown(keys); err != nil || got != c.want {
			t.Errorf("%s: ParseKeys = %q, %v, want %q", name, got, err, c.want)
		}
	}
}

// AUTH-14: faults name the line and never what stands there.
func TestParseKeysRefuses(t *testing.T) {
	const secret = "s3cret"
	ok := "web " + tokenA + "\n"
	for name, c := range map[string]struct {
		text string
		line int // 0 = of the whole file
	}{
		"BOM":                      {"\ufeff" + ok, 1},
		"BOM before a comment":     {"\ufeff# " + secret + "\n" + ok, 1},
		"UTF-16":                   {"\xff\xfet\x00\n", 1},
		"tab":                      {ok + "web\t" + secret, 2},
		"tab in a comment":         {ok + "#\t" + secret, 2},
		"NUL":                      {secret + "\x00", 1},
		"CR inside":                {"# a\r" + secret + "\n" + ok, 1},
		"CR at the end":            {ok + secret + "\r", 2},
		"two CRs":                  {secret + "\r\r\n", 1},
		"trailing space":           {ok + "\n# c\n" + secret + " \n", 4},
		"leading space":            {" " + secret, 1},
		"a space alone":            {ok + " \n", 2},
		"space before a comment":   {" # " + secret, 1},
		"two spaces":               {"web  " + secret, 1},
		"comment behind":           {"web " + secret + " # c", 1},
		"bad token":                {ok + "web " + secret + "!", 2},
		"non-ASCII token":          {secret + "\u00e9", 1},
		"no token in list":         {secret + ",", 1},
		"list with a name":         {"web " + secret + "," + secret, 1},
		"bad name":                 {secret + "! " + secret, 1},
		"long name":                {strings.Repeat("n", 65) + " " + secret, 1},
		"long token":               {strings.Repeat("a", 8193), 1},
		"bad time":                 {"web " + secret + " tomorrow", 1},
		"time without zone":        {"web " + secret + " 2030-01-02T03:04:05", 1},
		"no such day":              {"web " + secret + " 2030-02-30T03:04:05Z", 1},
		"the zero time":            {"web " + secret + " 0001-01-01T00:00:00Z", 1},
		"no token but tags":        {"tags=" + secret, 1},
		"tags like a token":        {"tags=", 1},
		"empty tags":               {"web " + secret + " tags=", 1},
		"empty tag":                {"web " + secret + " tags=a,,b", 1},
		"bad tag":                  {"web " + secret + " tags=a!", 1},
		"long tag":                 {"web " + secret + " tags=" + strings.Repeat("a", 129), 1},
		"33 tags":                  {"web " + secret + " tags=" + strings.Repeat("a,", 32) + "a", 1},
		"tags in the middle":       {"web " + secret + " tags=a 2030-01-02T03:04:05Z", 1},
		"tags twice":               {"web " + secret + " 2030-01-02T03:04:05Z tags=a tags=b", 1},
		"five fields":              {"web " + secret + " 2030-01-02T03:04:05Z x y", 1},
		"1025 lines":               {strings.Repeat("\n", 1023) + ok + secret, 1025},
		"1025 keys":                {strings.Repeat("a,", 1024) + "a", 1},
		"1025 keys in three lines": {strings.Repeat("a,", 511) + "a\n" + ok + strings.Repeat("a,", 511) + "a", 3},
		"larger than 1 MiB":        {"#" + strings.Repeat("a", 1<<20), 0},
	} {
		keys, err := authmin.ParseKeys([]byte(c.text), "api")
		if keys != nil || !errors.Is(err, authmin.ErrMalformed) {
			t.Errorf("%s: ParseKeys = %d keys, %v", name, len(keys), err)
			continue
		}
		where := fmt.Sprintf("authmin: key file, line %d: ", c.line)
		if c.line == 0 {
			where = "authmin: key file: "
		}
		if s := err.Error(); !strings.HasPrefix(s, where) || strings.Contains(s, secret) || len(s) > 200 || strings.Contains(s, "\n") {
			t.Errorf("%s: %v, want %s", name, err, where)
		}
	}
}

// AUTH-14: the limits themselves are allowed.
func TestParseKeysLimits(t *testing.T) {
	for name, text := range map[string]string{
		"1024 lines": strings.Repeat("\n", 1023) + tokenA + "\n",
		"1024 keys":  strings.Repeat("a,", 1023) + "a",
		"1 MiB":      tokenA + "\n#" + strings.Repeat("a", 1<<20-len(tokenA)-2),
		"32 tags":    tokenA + " tags=" + strings.Repeat("a,", 31) + strings.Repeat("a", 128),
		"long token": strings.Repeat("a", 8192),
		"long name":  strings.Repeat("n", 64) + " " + tokenA,
	} {
		if keys, err := authmin.ParseKeys([]byte(text), "api"); err != nil || len(keys) == 0 {
			t.Errorf("%s: ParseKeys = %v", name, err)
		}
	}
}

// AUTH-15: a file without keys is an error, so that nobody takes it for a
// service without tokens.
func TestParseKeysEmpty(t *testing.T) {
	for _, text := range []string{"", "\n", "# none\n\r\n"} {
		if keys, err := authmin.ParseKeys([]byte(text), "api"); keys != nil || !errors.Is(err, authmin.ErrNoKeys) {
			t.Errorf("ParseKeys(%q) = %v, %v, want ErrNoKeys", text, keys, err)
		}
	}
}

// AUTH-14: several faults come together, up to a bound; a default name is
// needed only where a token has none.
func TestParseKeysFaults(t *testing.T) {
	_, err := authmin.ParseKeys([]byte("a b c d e\n"+tokenA+"\n!\n"), "api")
	if err == nil || !strings.Contains(err.Error(), "line 1: ") || !strings.Contains(err.Error(), "line 3: ") {
		t.Errorf("ParseKeys = %v, want two faults", err)
	}
	_, err = authmin.ParseKeys([]byte(strings.Repeat("!\n", 100)), "api")
	if err == nil || strings.Count(err.Error(), "\n") != 19 {
		t.Errorf("ParseKeys = %v, want 20 faults", err)
	}
	_, err = authmin.ParseKeys([]byte(strings.Repeat("a,", 5000)), "api")
	if err == nil || !strings.Contains(err.Error(), "more than 1024 keys") {
		t.Errorf("ParseKeys = %v, want the limit of keys", err)
	}
	if _, err := authmin.ParseKeys([]byte("web "+tokenA), ""); err != nil {
		t.Errorf("ParseKeys without a default name = %v", err)
	}
	if _, err := authmin.ParseKeys([]byte(tokenA), ""); !errors.Is(err, authmin.ErrMalformed) {
		t.Errorf("ParseKeys of a token without name = %v", err)
	}
}

// FuzzParseKeys: no panic, no content in an error, and what is accepted means
// the same when it is written in the longest form.
func FuzzParseKeys(f *testing.F) {
	for _, s := range []string{
		tokenA, tokenA + "," + tokenB + " tags=a", "web " + tokenA + " 2030-01-02T03:04:05Z tags=tenant.acme,b\r\n", "# c\n\n", "\ufeffa b", "a  b", "a b ", "a\tb", "tags=a", "tags=", "a 0001-01-01T00:00:00Z",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		keys, err := authmin.ParseKeys(text, "api")
		if err != nil {
			if keys != nil || !errors.Is(err, authmin.ErrMalformed) && !errors.Is(err, authmin.ErrNoKeys) {
				t.Fatalf("ParseKeys = %v, %v", keys, err)
			}
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if len(line) > 150 || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r > '~' }) {
					t.Fatalf("an error with content: %q", line)
				}
			}
			return
		}
		if len(keys) == 0 || len(keys) > 1024 {
			t.Fatalf("%d keys", len(keys))
		}
		var long strings.Builder
		for _, k := range keys {
			if k.Token.IsZero() || k.Digest != [32]byte{} || !k.NotBefore.IsZero() {
				t.Fatalf("ParseKeys makes %+v", k)
			}
			fields := []string{k.Name, k.Token.Reveal()}
			if !k.NotAfter.IsZero() {
				fields = append(fields, k.NotAfter.Format(time.RFC3339Nano))
			}
			if k.Tags != nil {
				fields = append(fields, "tags="+strings.Join(k.Tags, ","))
			}
			long.WriteString(strings.Join(fields, " ") + "\r\n")
		}
		again, err := authmin.ParseKeys([]byte(long.String()), "other")
		if err != nil || !slices.EqualFunc(keys, again, func(a, b authmin.Key) bool {
			return a.Name == b.Name && a.Token.Equal(b.Token) && a.NotAfter.Equal(b.NotAfter) && slices.Equal(a.Tags, b.Tags)
		}) {
			t.Fatalf("%q means %q", text, shown(again))
		}
	})
}
