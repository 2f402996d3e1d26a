package inputvalidation_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/llorch/llorch/inputvalidation"
)

// All faults of a request are reported at once, and no error repeats input.
func Example() {
	err := inputvalidation.CheckIdentifier("name", "../etc", inputvalidation.IdentRules{})
	_, err2 := inputvalidation.ParseModelRef("model", "http://example.org/m")
	err3 := inputvalidation.CheckJSON("body", []byte(`{"role":"user","role":"admin"}`), 0)
	fmt.Println(errors.Join(err, err2, err3))
	fmt.Println("agent:", inputvalidation.Escape("curl\x1b[2J\nforged"))
	// Output:
	// name: has a character that is not allowed at byte 0
	// model: has an unknown scheme at byte 0
	// body: repeats a member name at byte 15
	// agent: curl\x1b[2J\nforged
}

func ExampleCheckIdentifier() {
	rules := inputvalidation.IdentRules{Max: 63, Extra: "._-"}
	fmt.Println(inputvalidation.CheckIdentifier("pool", "llama-8b.q4", rules))
	err := inputvalidation.CheckIdentifier("pool", "a..b", rules)
	fmt.Println(err, errors.Is(err, inputvalidation.RuleTraversal))
	// Output:
	// <nil>
	// pool: leaves its directory at byte 1 true
}

func ExampleParseUUID() {
	fmt.Println(inputvalidation.ParseUUID("task", "0198F3A2-7B1C-7DEF-8ABC-0123456789AB"))
	// Output: 0198f3a2-7b1c-7def-8abc-0123456789ab <nil>
}

func ExampleParseHex() {
	_, err := inputvalidation.ParseHex("sha256", "abc", 32)
	fmt.Println(err)
	// Output: sha256: does not have the required form at byte 3 limit 64
}

func ExampleParsePrompt() {
	p, err := inputvalidation.ParsePrompt("prompt", "Why is the sky blue?", 0, 0)
	fmt.Println(p, err)
	fmt.Println(p.Reveal())
	// Output:
	// [prompt 20 bytes sha256:09ea26793343] <nil>
	// Why is the sky blue?
}

func ExampleRange() {
	fmt.Println(inputvalidation.Range("timeout", 90*time.Second, time.Second, time.Minute))
	// Output: 0s timeout: is out of range
}

func ExampleParseModelRef() {
	m, err := inputvalidation.ParseModelRef("model", "hf://org/repo@main:Q4_K_M/m.gguf")
	fmt.Println(m, err)
	fmt.Println(m.Scheme(), m.Owner(), m.Repo(), m.Revision(), m.Variant(), m.Path(), m.Pinned())
	// Output:
	// hf:org/repo@main:Q4_K_M::file=m.gguf <nil>
	// hf org repo main Q4_K_M m.gguf false
}

func ExampleModelRef_HostAllowed() {
	m, err := inputvalidation.ParseModelRef("model", "https://cdn.example.org/m.gguf")
	fmt.Println(m.HostAllowed([]string{"*.example.org"}), m.HostAllowed(nil), err)
	// Output: true false <nil>
}

func ExampleParseRelPath() {
	p, err := inputvalidation.ParseRelPath("path", "models/llama.gguf")
	fmt.Println(p, p.Base(), err)
	_, err = inputvalidation.ParseRelPath("path", "models/../../etc/passwd")
	fmt.Println(err)
	// Output:
	// models/llama.gguf llama.gguf <nil>
	// path: leaves its directory at byte 7
}

func ExampleCheckJSON() {
	fmt.Println(inputvalidation.CheckJSON("body", []byte(`{"role":"user","role":"admin"}`), 0))
	fmt.Println(inputvalidation.CheckJSON("body", []byte(`{"role":"user"}`), 0))
	// Output:
	// body: repeats a member name at byte 15
	// <nil>
}

func ExampleEscape() {
	shown := inputvalidation.Escape("user=\u202enimda \xff\r\n")
	fmt.Println(shown)
	back, err := inputvalidation.Unescape(shown)
	fmt.Println(back == "user=\u202enimda \xff\r\n", err)
	// Output:
	// user=\u202enimda \xff\r\n
	// true <nil>
}

func ExampleUnescape() {
	back, err := inputvalidation.Unescape(`tab\tand a stray byte \xff`)
	fmt.Printf("%q %v\n", back, err)
	_, err = inputvalidation.Unescape(`C:\models`)
	fmt.Println(err)
	// Output:
	// "tab\tand a stray byte \xff" <nil>
	// text: does not have the required form at byte 2
}

func ExampleEscapeMax() {
	fmt.Println(inputvalidation.EscapeMax("a very long user agent string from a stranger", 30))
	// Output: a very long user agent str\+19
}

func ExampleEscapeBlock() {
	fmt.Println(inputvalidation.EscapeBlock("line 1\n\tline 2 \x1b[31m"))
	// Output:
	// line 1
	// 	line 2 \x1b[31m
}

func ExampleOpenTree() {
	dir, err := os.MkdirTemp("", "models")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	tree, err := inputvalidation.OpenTree(dir, inputvalidation.TreeConfig{})
	if err != nil {
		panic(err)
	}
	defer tree.Close()
	p, _ := inputvalidation.ParseRelPath("path", "lease.json")
	fmt.Println(tree.WriteFile(p, []byte(`{"epoch":7}`), 0o600))
	data, err := tree.ReadFile(p, 4096)
	fmt.Println(string(data), err)
	// Output:
	// <nil>
	// {"epoch":7} <nil>
}

func ExampleTree_Files() {
	dir, err := os.MkdirTemp("", "models")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	tree, err := inputvalidation.OpenTree(dir, inputvalidation.TreeConfig{})
	if err != nil {
		panic(err)
	}
	defer tree.Close()
	p, _ := inputvalidation.ParseRelPath("path", "org/llama")
	sub, err := tree.Sub(p, true) // makes org and org/llama
	if err != nil {
		panic(err)
	}
	defer sub.Close()
	for _, name := range []string{"model.gguf", "config.json"} {
		f, _ := inputvalidation.ParseRelPath("path", name)
		if err := sub.WriteFile(f, []byte(name), 0o600); err != nil {
			panic(err)
		}
	}
	for f, err := range tree.Files(context.Background()) {
		fmt.Println(f.Path, f.Size, err)
	}
	// Output:
	// org/llama/config.json 11 <nil>
	// org/llama/model.gguf 10 <nil>
}

func ExampleTree_Sub() {
	dir, err := os.MkdirTemp("", "state")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	tree, err := inputvalidation.OpenTree(dir, inputvalidation.TreeConfig{})
	if err != nil {
		panic(err)
	}
	defer tree.Close()
	p, _ := inputvalidation.ParseRelPath("path", "leases")
	_, err = tree.Sub(p, false)
	fmt.Println(errors.Is(err, fs.ErrNotExist))
	sub, err := tree.Sub(p, true)
	fmt.Println(err, sub.Close())
	// Output:
	// true
	// <nil> <nil>
}

func ExampleClassifyAddr() {
	for _, a := range []string{"192.0.43.8", "10.1.2.3", "::ffff:169.254.169.254"} {
		fmt.Println(inputvalidation.ClassifyAddr(netip.MustParseAddr(a)))
	}
	// Output:
	// public
	// private
	// metadata
}

func ExampleDialControl() {
	dialer := net.Dialer{Control: inputvalidation.DialControl(inputvalidation.AddrPublic)}
	_, err := dialer.Dial("tcp", "127.0.0.1:80")
	fmt.Println(errors.Is(err, inputvalidation.RuleAddress))
	// Output: true
}
