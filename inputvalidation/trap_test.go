package inputvalidation_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/llorch/llorch/inputvalidation"
)

// Each test is a mistake that similar software made. TestTrap_WalkRace and
// TestTrap_FIFOBlocks stand in tree_race_test.go.

func wantEscape(t *testing.T, in, want string) {
	t.Helper()
	if got := inputvalidation.Escape(in); got != want {
		t.Errorf("Escape(%+q) = %s, want %s", in, got, want)
	}
}

// A C1 control begins a terminal sequence as well as ESC does.
func TestTrap_C1Csi(t *testing.T) { wantEscape(t, "\u009b31mred", `\u009b31mred`) }

// Line and paragraph separators break lines beside LF.
func TestTrap_ZlZp(t *testing.T) { wantEscape(t, "a\u2028b\u2029c", `a\u2028b\u2029c`) }

// CRLF in a value of one line makes a second log record.
func TestTrap_NewlineForgery(t *testing.T) {
	const forged = "guest\r\nlevel=INFO msg=\"admin logged in\""
	wantEscape(t, forged, `guest\r\nlevel=INFO msg="admin logged in"`)
	if inputvalidation.CheckIdentifier("user", forged, inputvalidation.IdentRules{}) == nil {
		t.Error("an identifier of two lines is accepted")
	}
}

// A lone CR lets the terminal overwrite the line, in a block too.
func TestTrap_LoneCR(t *testing.T) {
	wantEscape(t, "bad\rgood", `bad\rgood`)
	if got := inputvalidation.EscapeBlock("bad\rgood\n\tx"); got != "bad\\rgood\n\tx" {
		t.Errorf("EscapeBlock = %q", got)
	}
}

// Both comparisons with a NaN are false.
func TestTrap_NaNPassesRange(t *testing.T) {
	_, err := inputvalidation.Range("temperature", math.NaN(), 0, 2)
	wantRule(t, "Range(NaN)", err, inputvalidation.RuleNaN)
}

// With swapped bounds everything is refused for a reason that names the program.
func TestTrap_SwappedBounds(t *testing.T) {
	_, err := inputvalidation.Range("n", 5, 10, 0)
	wantRule(t, "Range(5, 10, 0)", err, inputvalidation.RuleBounds)
}

// An identifier or a file name becomes an option of a command.
func TestTrap_LeadingDash(t *testing.T) {
	wantRule(t, "CheckIdentifier", inputvalidation.CheckIdentifier("id", "-rf", inputvalidation.IdentRules{}), inputvalidation.RuleSyntax)
	for _, s := range []string{"--model", "a/-o", "file:-x", "a/b/-x", "https://a.b/-x"} {
		if m, err := inputvalidation.ParseModelRef("m", s); err == nil {
			t.Errorf("ParseModelRef(%q) = %v", s, m)
		}
	}
}

// os.Root follows a last link that appears between the look and the opening.
func TestTrap_RootFinalSymlink(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for name, content := range map[string]string{"f": "asked for", "other": "not asked for"} {
		if err := root.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	looks := 0
	f, _, err := inputvalidation.OpenSame(root, "f", func(name string) (os.FileInfo, error) {
		fi, err := root.Lstat(name)
		if looks++; looks == 1 {
			if err := errors.Join(root.Rename("f", "away"), root.Symlink("other", "f")); err != nil {
				t.Skip("no symbolic links here:", err)
			}
		}
		return fi, err
	})
	wantRule(t, "OpenSame", err, inputvalidation.RuleSymlink)
	if f != nil || looks != 2 {
		t.Errorf("a file was opened through the link, or it was looked at %d times", looks)
	}
}

// golang/go#79005: a trailing slash made a link a directory.
func TestTrap_TrailingSlash(t *testing.T) {
	_, err := inputvalidation.ParseRelPath("p", "link/")
	wantRule(t, "ParseRelPath(link/)", err, inputvalidation.RuleSyntax)
}

// golang/go#75335: an absolute link that points inside counts as outside.
func TestTrap_AbsoluteLinkInside(t *testing.T) {
	dir := t.TempDir()
	for name, cfg := range map[string]inputvalidation.TreeConfig{"strict": {}, "within": {FollowWithin: true}} {
		tree := openTree(t, dir, cfg)
		if name == "strict" {
			if err := tree.WriteFile(relPath(t, "f"), []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(filepath.Join(dir, "f"), filepath.Join(dir, "abs")); err != nil {
				t.Skip("no symbolic links here:", err)
			}
		}
		if data, err := tree.ReadFile(relPath(t, "abs"), 10); err == nil {
			t.Errorf("%s: ReadFile(abs) = %q", name, data)
		}
	}
}

// A relative path is looked up in the working directory instead of the root.
func TestTrap_RelativeToCwd(t *testing.T) {
	if _, err := os.Stat("trap_test.go"); err != nil {
		t.Skip("the source is not the working directory")
	}
	tree := openTree(t, t.TempDir(), inputvalidation.TreeConfig{})
	if _, err := tree.ReadFile(relPath(t, "trap_test.go"), 1<<20); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("ReadFile = %v, want not found below the root", err)
	}
	_, err := inputvalidation.OpenTree(".", inputvalidation.TreeConfig{})
	wantRule(t, "OpenTree(.)", err, inputvalidation.RuleSyntax)
}

// /srv/models-evil passes a check for the string prefix /srv/models.
func TestTrap_PrefixString(t *testing.T) {
	base := t.TempDir()
	for _, d := range []string{"models", "models-evil"} {
		if err := os.Mkdir(filepath.Join(base, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(base, "models-evil", "f"), []byte("canary"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../models-evil/f", filepath.Join(base, "models", "f")); err != nil {
		t.Skip("no symbolic links here:", err)
	}
	tree := openTree(t, filepath.Join(base, "models"), inputvalidation.TreeConfig{FollowWithin: true})
	_, err := tree.ReadFile(relPath(t, "f"), 10)
	wantRule(t, "ReadFile", err, inputvalidation.RuleOutside)
}

func TestTrap_BareRefIsNotAFile(t *testing.T) {
	m, err := inputvalidation.ParseModelRef("m", "models/llama")
	if err != nil || m.Scheme() != inputvalidation.SchemeHF {
		t.Errorf("ParseModelRef(models/llama) = %v (%s), %v", m, m.Scheme(), err)
	}
}

func TestTrap_TrailingDotDot(t *testing.T) {
	for _, s := range []string{"foo/..", "a/b/foo/..", "file:foo/..", "https://a.b/foo/.."} {
		_, err := inputvalidation.ParseModelRef("m", s)
		wantRule(t, "ParseModelRef("+s+")", err, inputvalidation.RuleTraversal)
	}
}

// A well-formed https reference is no permission to fetch it.
func TestTrap_HttpsAnyHost(t *testing.T) {
	m, err := inputvalidation.ParseModelRef("m", "https://internal.corp/m")
	if err != nil || m.HostAllowed(nil) || m.HostAllowed([]string{"*", "corp", "*.internal.corp"}) {
		t.Errorf("%v, %v is allowed", m, err)
	}
}

func TestTrap_PercentDots(t *testing.T) {
	for _, s := range []string{"a/b/%2e%2e/c", "file:%2e%2e/c", "https://a.b/%2e%2e/c"} {
		_, err := inputvalidation.ParseModelRef("m", s)
		wantRule(t, "ParseModelRef("+s+")", err, inputvalidation.RuleCharset)
	}
}

// "\ud800" equals "\ufffd" after decoding, so two names become one.
func TestTrap_SurrogateEscape(t *testing.T) {
	raw := []byte(`{"\ud800":1,"\ufffd":2}`)
	var m map[string]int
	if err := json.Unmarshal(raw, &m); err != nil || len(m) != 1 {
		t.Fatalf("the trap is gone: %v, %v", m, err)
	}
	wantRule(t, "CheckJSON", inputvalidation.CheckJSON("body", raw, 0), inputvalidation.RuleUTF8)
}

// A limit in runes lets four times the bytes pass.
func TestTrap_BytesVersusRunes(t *testing.T) {
	s := strings.Repeat("\U0001f600", 100)
	_, err := inputvalidation.ParsePrompt("p", s, 100, 399)
	if e := wantRule(t, "ParsePrompt", err, inputvalidation.RuleTooLong); e.Limit != 399 || e.Actual != 400 {
		t.Errorf("limit %d, actual %d", e.Limit, e.Actual)
	}
	if utf8.RuneCountInString(s) != 100 {
		t.Fatal("wrong test data")
	}
}

// An error that quotes its input carries secrets and terminal escapes into logs
// and answers. TestErrorsNeverEcho tries every position.
func TestTrap_ErrorEchoesInput(t *testing.T) {
	const secret = "sk-live-\x1b[2J0123"
	for what, err := range map[string]error{
		"identifier": inputvalidation.CheckIdentifier("key", secret, inputvalidation.IdentRules{}),
		"JSON":       inputvalidation.CheckJSON("key", []byte(`{"`+secret+`":1}`), 0),
		"field":      inputvalidation.CheckIdentifier(secret, "", inputvalidation.IdentRules{}),
	} {
		wire, _ := json.Marshal(err)
		if text := err.Error() + string(wire); strings.Contains(text, "sk-live") || inputvalidation.Escape(text) != text {
			t.Errorf("%s: %q", what, text)
		}
	}
	_, err := inputvalidation.OpenTree(filepath.Join(t.TempDir(), "sk-live"), inputvalidation.TreeConfig{})
	if err == nil || strings.Contains(err.Error(), "sk-live") {
		t.Errorf("OpenTree = %v", err)
	}
}

// A name that resolves to a metadata address passes every check of the name.
func TestTrap_DialByName(t *testing.T) {
	for _, answer := range []net.IP{net.IPv4(169, 254, 169, 254).To4(), net.IPv4(10, 0, 0, 1).To4(), net.ParseIP("fd00:ec2::254"), net.ParseIP("64:ff9b::a9fe:a9fe")} {
		d := net.Dialer{
			Control:  inputvalidation.DialControl(inputvalidation.AddrPublic),
			Resolver: &net.Resolver{PreferGo: true, Dial: answering(t, answer)},
		}
		conn, err := d.DialContext(t.Context(), "tcp", "models.example.:443")
		if conn != nil {
			conn.Close()
		}
		if !errors.Is(err, inputvalidation.RuleAddress) {
			t.Errorf("dial of a name for %v = %v, want RuleAddress", answer, err)
		}
	}
	mapped := inputvalidation.DialControl(inputvalidation.AddrPublic)("tcp6", "[::ffff:169.254.169.254]:80", nil)
	wantRule(t, "DialControl(mapped)", mapped, inputvalidation.RuleAddress)
}

// answering returns a resolver transport that answers each question for an
// address of the family of ip with ip, and the other family with nothing.
func answering(t *testing.T, ip net.IP) func(context.Context, string, string) (net.Conn, error) {
	return func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		go func() {
			defer server.Close()
			for {
				var size [2]byte
				if _, err := io.ReadFull(server, size[:]); err != nil {
					return // the resolver hung up
				}
				query := make([]byte, binary.BigEndian.Uint16(size[:]))
				if _, err := io.ReadFull(server, query); err != nil {
					return
				}
				reply := dnsReply(query, ip)
				if _, err := server.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...)); err != nil {
					return
				}
			}
		}()
		t.Cleanup(func() { client.Close() })
		return client, nil
	}
}

// dnsReply answers a DNS message with one question.
func dnsReply(query []byte, ip net.IP) []byte {
	end := 12
	for query[end] != 0 {
		end += int(query[end]) + 1
	}
	end += 5 // the root label, type and class
	kind := binary.BigEndian.Uint16(query[end-4:])
	matches := kind == 1 && len(ip) == 4 || kind == 28 && len(ip) == 16
	reply := append([]byte{query[0], query[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, query[12:end]...)
	if matches {
		reply[7] = 1
		reply = append(reply, 0xc0, 12, query[end-4], query[end-3], 0, 1, 0, 0, 0, 60, 0, byte(len(ip)))
		reply = append(reply, ip...)
	}
	return reply
}
