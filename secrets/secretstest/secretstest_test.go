//go:build unix

package secretstest_test

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llorch/llorch/secrets"
	"github.com/llorch/llorch/secrets/secretstest"
)

const text = "bYt3s+of/the<secret>&\"more\" äö"

// spy is a test that only notes that it failed.
type spy struct {
	testing.TB
	said []string
}

func (s *spy) Helper()                      {}
func (s *spy) Errorf(f string, args ...any) { s.said = append(s.said, fmt.Sprintf(f, args...)) }

// leak returns what AssertNoLeak says about a blob.
func leak(t *testing.T, blob string) string {
	s := &spy{TB: t}
	secretstest.AssertNoLeak(s, secrets.New([]byte(text)), "harmless", blob)
	return strings.Join(s.said, "\n")
}

func TestAssertNoLeakFinds(t *testing.T) {
	quoted, _ := json.Marshal(text)
	forms := map[string]string{
		"raw": text, "upper": strings.ToUpper(text), "quoted": fmt.Sprintf("%q", text), "json": string(quoted),
		"query": url.QueryEscape(text), "path": url.PathEscape(text), "hex": hex.EncodeToString([]byte(text)), "spaced hex": fmt.Sprintf("% X", text),
		"decimal": fmt.Sprint([]byte(text)), "syntax": fmt.Sprintf("%#v", []byte(text)), "binary": fmt.Sprintf("%b", []byte(text)),
	}
	for i := range 3 { // at every offset within what is encoded
		b := []byte(strings.Repeat("x", i) + text + "x")
		forms[fmt.Sprint("base64 ", i)] = base64.StdEncoding.EncodeToString(b)
		forms[fmt.Sprint("URL base64 ", i)] = base64.RawURLEncoding.EncodeToString(b)
	}
	for name, form := range forms {
		if said := leak(t, "some "+form+" text"); !strings.HasPrefix(said, "blob 1 holds bytes ") || strings.Contains(said, "\n") {
			t.Errorf("%s: said %q", name, said)
		}
	}
	for at := range len(text) - 7 {
		if leak(t, "--"+text[at:at+8]+"--") == "" {
			t.Errorf("missed the piece at %d", at)
		}
		if piece := text[at : at+7]; leak(t, "--"+piece+"--") != "" {
			t.Errorf("7 bytes at %d count as a leak", at)
		}
	}
}

func TestAssertNoLeakPasses(t *testing.T) {
	if said := leak(t, "[REDACTED] and some other text, 0123456789abcdef"); said != "" {
		t.Errorf("said %q", said)
	}
	s := &spy{TB: t}
	secretstest.AssertNoLeak(s, secrets.New([]byte("abc")), "xabcx")
	secretstest.AssertNoLeak(s, secrets.Secret{}, "anything")
	if len(s.said) != 2 || strings.Contains(s.said[0], "abc") {
		t.Errorf("said %q about a short and a missing secret", s.said)
	}
}

// Secrets that are not text: they are found byte by byte, and nothing else is.
func TestAssertNoLeakOfBytes(t *testing.T) {
	s := &spy{TB: t}
	secretstest.AssertNoLeak(s, secrets.New([]byte("\x80\x81\x82\x83\x84\x85\x86\x87")), "\x90\x91\x92\x93\x94\x95\x96\x97", `\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd`)
	for i := range 50 {
		_ = secretstest.Key(uint64(i)).Use(func(b *[32]byte) error {
			ring, err := secrets.NewKeyring(1, map[uint32]secrets.Key{1: secretstest.Key(uint64(i) + 1000)})
			if err != nil {
				t.Fatal(err)
			}
			box, err := ring.Seal(nil, make([]byte, 1000), nil)
			if err != nil {
				t.Fatal(err)
			}
			secretstest.AssertNoLeak(s, secrets.New(append([]byte(nil), b[:]...)), string(box))
			return nil
		})
	}
	if len(s.said) != 0 {
		t.Errorf("false alarms: %q", s.said)
	}
	secretstest.AssertNoLeak(s, secrets.New([]byte("1234567\xc3")), "xx1234567\xc3\xa4yy")
	if len(s.said) != 1 {
		t.Error("missed a piece that ends within a character")
	}
}

func TestKey(t *testing.T) {
	mac := func(seed uint64) [32]byte {
		m, err := secretstest.Key(seed).MAC("test-v1")
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	if first, again := mac(1), mac(1); first != again || first == mac(2) {
		t.Error("a key depends on more or less than its seed")
	}
}

func load(t *testing.T, path string) (string, secrets.Meta, error) {
	t.Helper()
	s, m, err := secrets.ReadFile(t.Context(), path, secrets.Rules{})
	var text string
	_ = s.Use(func(b []byte) error { text = string(b); return nil })
	return text, m, err
}

func TestDir(t *testing.T) {
	dir := secretstest.Dir(t, map[string]string{"a": "one\n", "b": "two"})
	for name, want := range map[string]string{"a": "one", "b": "two"} {
		if got, m, err := load(t, filepath.Join(dir, name)); got != want || m.Warning != "" || err != nil {
			t.Errorf("%s = %q, %+v, %v", name, got, m, err)
		}
	}
}

// TestProjected also holds a directory against its description.
func TestProjected(t *testing.T) {
	v := secretstest.Projected(t, map[string]string{"a": "1", "b": "1"})
	v.Swap(map[string]string{"a": "2", "c": "2"})
	if got, m, err := load(t, v.Path("a")); got != "2" || m.Warning != "" || err != nil {
		t.Errorf("a = %q, %+v, %v", got, m, err)
	}
	if _, _, err := load(t, v.Path("b")); !errors.Is(err, secrets.ErrNotFound) {
		t.Errorf("b: %v", err)
	}
	left, err := os.ReadDir(v.Dir)
	if err != nil || len(left) != 4 { // ..2 ..data a c
		t.Errorf("the volume holds %v, %v", left, err)
	}
}

// A Source over the environment that Credentials returns.
func ExampleCredentials() {
	test(func(t testing.TB) {
		src, err := secrets.NewSource(secrets.Config{LookupEnv: secretstest.Credentials(t, map[string]string{"api-token": "hunter2 hunter2"})})
		if err != nil {
			t.Fatal(err)
		}
		token, meta, err := src.Load(context.Background(), "API_TOKEN")
		fmt.Println(token, meta.Origin, err)
		secretstest.AssertNoLeak(t, token, fmt.Sprintf("%+v", token))
	})
	// Output: [REDACTED] credential <nil>
}

func ExampleProjected() {
	test(func(t testing.TB) {
		volume := secretstest.Projected(t, map[string]string{"token": "first"})
		volume.Swap(map[string]string{"token": "second"})
		token, _, err := secrets.ReadFile(context.Background(), volume.Path("token"), secrets.Rules{})
		fmt.Println(token.Equal([]byte("second")), err)
	})
	// Output: true <nil>
}

// test stands in for a test: examples have none.
func test(body func(t testing.TB)) {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	body(&standIn{dir: dir})
}

type standIn struct {
	testing.TB
	dir string
}

func (s *standIn) Helper()               {}
func (s *standIn) TempDir() string       { return s.dir }
func (s *standIn) Fatal(args ...any)     { panic(fmt.Sprint(args...)) }
func (s *standIn) Errorf(string, ...any) { panic("leaked") }
