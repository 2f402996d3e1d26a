package enginesim_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/llorch/llorch/examples/internal/enginesim"
)

func ExampleMain() {
	var stderr bytes.Buffer
	code := enginesim.Main(context.Background(), []string{"--host", "192.0.2.1"}, strings.NewReader(""), os.Stdout, &stderr)
	fmt.Println(code, stderr.String())
	// Output: 77 enginesim: an address that others can reach needs --api-key-file
}
