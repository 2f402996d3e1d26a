package poolhttp_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
)

const stubWord = "engine-stub"

// TestMain lets the test binary stand in for an engine.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == stubWord {
		os.Exit(stub(os.Args[2:]))
	}
	code := m.Run()
	for _, line := range observed.undocumented() {
		fmt.Println("not in the OpenAPI description:", line)
		code = 1
	}
	os.Exit(code)
}

// observed are all answers of this run.
var observed = newObservations()

// stub answers as llama-server does. A context of 13 tokens kills it at once, with
// 17 it loads for ever; -c is that of all slots.
func stub(args []string) int {
	flags := map[string]string{}
	for i := 0; i+1 < len(args); i++ {
		if strings.HasPrefix(args[i], "-") {
			flags[args[i]] = args[i+1]
		}
	}
	fmt.Println("stub of", flags["--alias"], "\x1b[31mstarts")
	tokens, _ := strconv.Atoi(flags["-c"])
	if tokens < 100 && tokens%13 == 0 {
		fmt.Println("out of luck")
		return 3
	}
	key, err := os.ReadFile(flags["--api-key-file"])
	if err != nil {
		return 1
	}
	ln, err := net.Listen("tcp", net.JoinHostPort(flags["--host"], flags["--port"]))
	if err != nil {
		fmt.Println(err) // another program was faster; the next port is tried
		return 1
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	_ = http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/health" && tokens < 100 && tokens%17 == 0:
			w.WriteHeader(http.StatusServiceUnavailable)
		case r.URL.Path == "/health":
			_, _ = io.WriteString(w, `{"status":"ok"}`)
		case r.Header.Get("Authorization") != "Bearer "+strings.TrimSpace(string(key)):
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path == "/v1/models":
			fmt.Fprintf(w, `{"data":[{"id":%q}]}`, flags["--alias"])
		case r.URL.Path == "/props":
			fmt.Fprintf(w, `{"total_slots":%s}`, flags["-np"])
		default:
			http.NotFound(w, r)
		}
	}))
	return 1
}
