package sse_test

import (
	"fmt"
	"io"
	"strings"

	"github.com/llorch/llorch/orchestrator/worker/sse"
)

func ExampleNewDecoder() {
	d := sse.NewDecoder(strings.NewReader("id: 1\nevent: token\ndata: {\"t\":\" hello\"}\n\ndata: [DONE]\n\n"), sse.Limits{})
	for {
		f, err := d.Next()
		if err != nil {
			fmt.Println(err == io.EOF)
			return
		}
		fmt.Printf("%s %q %s\n", f.ID, f.Event, f.Data)
	}
	// Output:
	// 1 "token" {"t":" hello"}
	// 1 "" [DONE]
	// true
}

func ExampleAppendFrame() {
	fmt.Printf("%q\n", sse.AppendFrame(nil, sse.Frame{ID: "7", Event: "end", Data: []byte("{}")}))
	// Output: "id: 7\nevent: end\ndata: {}\n\n"
}

func ExampleUTF8() {
	var u sse.UTF8
	fmt.Printf("%q ", u.Append(nil, []byte("caf\xc3")))
	fmt.Printf("%q ", u.Append(nil, []byte("\xa9")))
	fmt.Printf("%q\n", u.Flush(nil))
	// Output: "caf" "é" ""
}
