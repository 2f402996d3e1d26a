package sse

import (
	"bytes"
	"strconv"
	"strings"
	"time"
)

// AppendFrame appends f as it goes over the wire. Nil Data writes no data line,
// and a reader gets no event from such a frame (it may still carry a Retry).
// Line ends in Data (LF, CR, CRLF) become new data lines, so a reader sees LF.
// An ID or Event that holds CR or LF, or an ID with NUL, can not be expressed
// and is left out.
func AppendFrame(dst []byte, f Frame) []byte {
	if f.ID != "" && !strings.ContainsAny(f.ID, "\r\n\x00") {
		dst = append(append(append(dst, "id: "...), f.ID...), '\n')
	}
	if f.Event != "" && !strings.ContainsAny(f.Event, "\r\n") {
		dst = append(append(append(dst, "event: "...), f.Event...), '\n')
	}
	if f.Retry > 0 {
		dst = append(dst, "retry: "...)
		dst = append(strconv.AppendInt(dst, int64(f.Retry/time.Millisecond), 10), '\n')
	}
	for rest := f.Data; rest != nil; {
		line := rest
		rest = nil
		if i := bytes.IndexAny(line, "\r\n"); i >= 0 {
			n := 1
			if bytes.HasPrefix(line[i:], []byte("\r\n")) {
				n = 2
			}
			line, rest = line[:i], line[i+n:]
		}
		dst = append(append(append(dst, "data: "...), line...), '\n')
	}
	return append(dst, '\n')
}

// AppendComment appends a line that readers ignore, such as a keep-alive. Line
// ends in text become spaces.
func AppendComment(dst []byte, text string) []byte {
	dst = append(dst, ": "...)
	for i := range len(text) {
		if c := text[i]; c == '\r' || c == '\n' {
			dst = append(dst, ' ')
		} else {
			dst = append(dst, c)
		}
	}
	return append(dst, "\n\n"...)
}
