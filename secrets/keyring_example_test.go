package secrets_test

import (
	"errors"
	"fmt"
	"strings"

	"github.com/llorch/llorch/secrets"
)

// A box is bound to its place by the additional data, and survives a rotation.
func ExampleKeyring() {
	k1, _ := secrets.GenerateKey()
	k2, _ := secrets.GenerateKey()
	old, err := secrets.NewKeyring(1, map[uint32]secrets.Key{1: k1})
	if err != nil {
		fmt.Println(err)
		return
	}
	box, _ := old.Seal(nil, []byte("prompt text"), []byte("task-42"))

	ring, _ := secrets.NewKeyring(2, map[uint32]secrets.Key{2: k2, 1: k1})
	box, changed, err := ring.Reseal(box, []byte("task-42"))
	id, _ := ring.KeyOf(box)
	fmt.Println(changed, id, err)

	text, err := ring.Open(nil, box, []byte("task-42"))
	fmt.Println(string(text), err)
	_, err = ring.Open(nil, box, []byte("task-43"))
	fmt.Println(errors.Is(err, secrets.ErrUnsealable), ring)
	// Output:
	// true 2 <nil>
	// prompt text <nil>
	// true [REDACTED]
}

func ExampleParseKeyring() {
	file := secrets.New([]byte("# since May\n2 " + strings.Repeat("0123456789abcdef", 4) + "\n1 too-short\n"))
	_, err := secrets.ParseKeyring(file)
	fmt.Println(err)
	// Output: parse secret: line 3: a key is 64 hex digits, 43 or 44 base64 digits or 32 raw bytes
}
