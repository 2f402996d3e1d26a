//go:build unix

package secrets_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/llorch/llorch/secrets"
)

func ExampleNewSource() {
	dir, _ := os.MkdirTemp("", "")
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "token")
	_ = os.WriteFile(path, []byte("a-token-that-nobody-sees\n"), 0o600)
	os.Setenv("LLORCH_EXAMPLE_TOKEN_FILE", path)
	defer os.Unsetenv("LLORCH_EXAMPLE_TOKEN_FILE")

	src, err := secrets.NewSource(secrets.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	token, meta, err := src.Load(context.Background(), "LLORCH_EXAMPLE_TOKEN")
	fmt.Println(token, token.Len(), meta.Origin, err)
	// Output: [REDACTED] 24 file <nil>
}

func ExampleReadFile() {
	dir, _ := os.MkdirTemp("", "")
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "token")
	_, _, err := secrets.ReadFile(context.Background(), path, secrets.Rules{})
	fmt.Println(errors.Is(err, secrets.ErrNotFound))
	_ = os.WriteFile(path, []byte("a-token-that-nobody-sees\n"), 0o604)
	_ = os.Chmod(path, 0o604)
	_, _, err = secrets.ReadFile(context.Background(), path, secrets.Rules{})
	fmt.Println(errors.Is(err, secrets.ErrPermission))
	_ = os.Chmod(path, 0o600)
	token, meta, err := secrets.ReadFile(context.Background(), path, secrets.Rules{Root: dir})
	fmt.Println(token, token.Len(), meta.Origin, err)
	// Output:
	// true
	// true
	// [REDACTED] 24 file <nil>
}

func ExampleRotating() {
	ctx := context.Background()
	dir, _ := os.MkdirTemp("", "")
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "token")
	_ = os.WriteFile(path, []byte("first\n"), 0o600)
	src, err := secrets.NewSource(secrets.Config{Files: map[string]string{"API_TOKEN": path}, NoEnv: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	token, err := secrets.NewRotating(ctx, src, "API_TOKEN", secrets.RotateConfig{})
	if err != nil {
		fmt.Println(err)
		return
	}
	// A server runs token.Run(ctx) on a goroutine of its own and calls Check on SIGHUP.
	for _, text := range []string{"second\n", ""} {
		_ = os.WriteFile(path, []byte(text), 0o600)
		err := token.Check(ctx)
		now, _ := token.Current()
		before, _, ok := token.Previous()
		fmt.Println(now.Equal([]byte("second")), ok, before.Equal([]byte("first")), errors.Is(err, secrets.ErrFormat))
	}
	// Output:
	// true true true false
	// true true true true
}

func ExampleSecret() {
	s := secrets.New([]byte("hunter2"))
	fmt.Printf("%v %+v %#v %x\n", s, s, s, s)
	fmt.Println(s.Equal([]byte("hunter2")), s.Equal([]byte("hunter3")))
	_ = s.Use(func(b []byte) error {
		fmt.Println(len(b), "bytes, for the length of this call")
		return nil
	})
	// Output:
	// [REDACTED] [REDACTED] [REDACTED] [REDACTED]
	// true false
	// 7 bytes, for the length of this call
}

func ExampleDeriveKey() {
	token := secrets.New([]byte("a token with enough bytes"))
	key, err := secrets.DeriveKey(token, nil, "example-seal-key-v1")
	fmt.Println(key, err)
	_, err = secrets.DeriveKey(token, nil, "no version")
	fmt.Println(err)
	// Output:
	// [REDACTED] <nil>
	// derive secret: the domain does not read like name-v1
}

func ExampleParseKey() {
	_, err := secrets.ParseKey(secrets.New([]byte("too short")))
	fmt.Println(err)
	// Output: parse secret: a key is 64 hex digits, 43 or 44 base64 digits or 32 raw bytes
}

func ExampleEnsureKeyFile() {
	dir, _ := os.MkdirTemp("", "")
	defer os.RemoveAll(dir)
	root, err := os.OpenRoot(dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer root.Close()
	_, created, err := secrets.EnsureKeyFile(root, "data.key")
	fmt.Println(created, err)
	_, created, err = secrets.EnsureKeyFile(root, "data.key")
	fmt.Println(created, err)
	// Output:
	// true <nil>
	// false <nil>
}
