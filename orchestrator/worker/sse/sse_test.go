package sse_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/llorch/llorch/orchestrator/worker/sse"
	"pgregory.net/rapid"
)

// all reads r to its end.
func all(r io.Reader, lim sse.Limits) ([]sse.Frame, error) {
	d := sse.NewDecoder(r, lim)
	var out []sse.Frame
	for {
		f, err := d.Next()
		if err != nil {
			if _, again := d.Next(); again != err {
				return out, fmt.Errorf("second call: %w, first: %w", again, err)
			}
			return out, err
		}
		f.Data = bytes.Clone(f.Data)
		out = append(out, f)
	}
}

type frames = []sse.Frame

func data(s string) sse.Frame { return sse.Frame{Data: []byte(s)} }

type decodeCase struct {
	name, in string
	want     frames
	err      error
}

// decodeCases retell the parser cases of the web platform's EventSource suite.
func decodeCases() []decodeCase {
	return []decodeCase{
		{"empty", "", nil, io.EOF},
		{"one", "data: a\n\n", frames{data("a")}, io.EOF},
		{"no space", "data:a\n\n", frames{data("a")}, io.EOF},
		{"only the first space", "data:  a\n\n", frames{data(" a")}, io.EOF},
		{"tab stays", "data:\ta\n\n", frames{data("\ta")}, io.EOF},
		{"several lines", "data: a\ndata:\ndata: b\n\n", frames{data("a\n\nb")}, io.EOF},
		{"field without colon", "data\ndata\n\n", frames{data("\n")}, io.EOF},
		{"empty data", "data\n\n", frames{data("")}, io.EOF},
		{"CR", "data: a\rdata: b\r\r", frames{data("a\nb")}, io.EOF},
		{"CRLF", "data: a\r\ndata: b\r\n\r\n", frames{data("a\nb")}, io.EOF},
		{"mixed", "data: a\r\n\rdata: b\n\r\ndata: c\r\r\n", frames{data("a"), data("b"), data("c")}, io.EOF},
		{"byte order mark", "\ufeffdata: a\n\n", frames{data("a")}, io.EOF},
		{"only one mark is taken", "\ufeff\ufeffdata: a\n\ndata: b\n\n", frames{data("b")}, io.EOF},
		{"mark inside", "data: \ufeffa\n\n", frames{data("\ufeffa")}, io.EOF},
		{"mark alone", "\ufeff", nil, io.EOF},
		{"comments", ": hi\ndata: a\n:\n: x\n\n: bye\n", frames{data("a")}, io.EOF},
		{"unknown and wrong case", "Data: x\nfoo: y\ndata: a\n data: z\n\n", frames{data("a")}, io.EOF},
		{"event", "event: ping\ndata: a\n\ndata: b\n\n", frames{{Event: "ping", Data: []byte("a")}, data("b")}, io.EOF},
		{"event without data is gone", "event: ping\n\ndata: b\n\n", frames{data("b")}, io.EOF},
		{"id stays", "id: 1\ndata: a\n\ndata: b\n\nid\ndata: c\n\n", frames{{ID: "1", Data: []byte("a")}, {ID: "1", Data: []byte("b")}, data("c")}, io.EOF},
		{"id of a frame without data", "id: 7\n\ndata: a\n\n", frames{{ID: "7", Data: []byte("a")}}, io.EOF},
		{"NUL in id", "id: 1\nid: 2\x003\ndata: a\n\n", frames{{ID: "1", Data: []byte("a")}}, io.EOF},
		{"retry", "retry: 2000\ndata: a\n\nretry: 1x\ndata: b\n\n", frames{{Retry: 2 * time.Second, Data: []byte("a")}, data("b")}, io.EOF},
		{"retry too large", "retry: 9223372036854775807\nretry:\nretry: -1\ndata: b\n\n", frames{data("b")}, io.EOF},
		{"NUL in data", "data: a\x00b\n\n", frames{data("a\x00b")}, io.EOF},
		{"done is data", "data: [DONE]\n\n", frames{data("[DONE]")}, io.EOF},
		{"no blank line", "data: a\n\ndata: b\n", frames{data("a")}, sse.ErrTruncated},
		{"no line end", "data: a\n\ndata: b", frames{data("a")}, sse.ErrTruncated},
		{"inside a comment", "data: a\n\n: b", frames{data("a")}, sse.ErrTruncated},
		{"line at the limit", "data: " + strings.Repeat("x", 26) + "\n\n", frames{data(strings.Repeat("x", 26))}, io.EOF},
		{"line above the limit", "data: a\n\ndata: " + strings.Repeat("x", 27) + "\n\n", frames{data("a")}, sse.ErrFrameTooLarge},
		{"endless line", "data: a\n\n" + strings.Repeat("x", 9000), frames{data("a")}, sse.ErrFrameTooLarge},
		{"frame above the limit", strings.Repeat("data: 0123456789\n", 5) + "\n", nil, sse.ErrFrameTooLarge},
		{"limits are per frame", strings.Repeat("data: 0123456789\n\n", 5), frames{data("0123456789"), data("0123456789"), data("0123456789"), data("0123456789"), data("0123456789")}, io.EOF},
	}
}

// TestDecode covers ORC-445.
func TestDecode(t *testing.T) {
	for _, tc := range decodeCases() {
		t.Run(tc.name, func(t *testing.T) {
			lim := sse.Limits{Line: 32, Frame: 64}
			for _, r := range []io.Reader{
				strings.NewReader(tc.in),
				iotest.OneByteReader(strings.NewReader(tc.in)),
				iotest.DataErrReader(strings.NewReader(tc.in)),
			} {
				got, err := all(r, lim)
				if err != tc.err || !reflect.DeepEqual(got, tc.want) {
					t.Errorf("%q = %+v, %v, want %+v, %v", tc.in, got, err, tc.want, tc.err)
				}
			}
			// ORC-445: every place to cut the bytes in two.
			for i := range tc.in {
				got, err := all(io.MultiReader(strings.NewReader(tc.in[:i]), strings.NewReader(tc.in[i:])), lim)
				if err != tc.err || !reflect.DeepEqual(got, tc.want) {
					t.Fatalf("cut at %d: %+v, %v", i, got, err)
				}
			}
		})
	}
}

// TestFrameArrivesWithItsBlankLine: no frame waits for bytes of the next.
func TestFrameArrivesWithItsBlankLine(t *testing.T) {
	for _, end := range []string{"\n\n", "\r\r", "\r\n\r\n", "\n\r"} {
		r, w := io.Pipe()
		go func() { _, _ = io.WriteString(w, "data: a"+end) }()
		f, err := sse.NewDecoder(r, sse.Limits{}).Next()
		if err != nil || string(f.Data) != "a" {
			t.Errorf("end %q: %q, %v", end, f.Data, err)
		}
		_ = r.Close()
	}
}

func TestReaderErrors(t *testing.T) {
	broken := errors.New("broken")
	got, err := all(io.MultiReader(strings.NewReader("data: a\n\ndata: b"), iotest.ErrReader(broken)), sse.Limits{})
	if err != broken || len(got) != 1 {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := all(lazy{}, sse.Limits{}); err != io.ErrNoProgress {
		t.Errorf("a reader without progress: %v", err)
	}
}

type lazy struct{}

func (lazy) Read([]byte) (int, error) { return 0, nil }

func TestAppendFrame(t *testing.T) {
	for want, f := range map[string]sse.Frame{
		"\n":                                     {},
		"data: \n\n":                             {Data: []byte{}},
		"retry: 2000\n\n":                        {Retry: 2 * time.Second},
		"id: 1\nevent: e\ndata: a\n\n":           {ID: "1", Event: "e", Data: []byte("a")},
		"data: a\ndata: b\ndata: c\ndata: d\n\n": {Data: []byte("a\nb\r\nc\rd")},
		"data: a\ndata: \n\n":                    {Data: []byte("a\n")},
		"data: x\n\n":                            {ID: "1\ndata: forged", Event: "e\revil", Data: []byte("x")},
	} {
		if got := string(sse.AppendFrame(nil, f)); got != want {
			t.Errorf("AppendFrame(%+v) = %q, want %q", f, got, want)
		}
	}
	if got := string(sse.AppendComment(nil, "keep\nalive")); got != ": keep alive\n\n" {
		t.Errorf("AppendComment = %q", got)
	}
}

// TestRoundTrip: what AppendFrame writes, Next reads back.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var wire []byte
		var want frames
		for range rapid.IntRange(0, 5).Draw(t, "frames") {
			f := sse.Frame{
				ID:    rapid.StringMatching(`[0-9]{1,5}`).Draw(t, "id"),
				Event: rapid.StringMatching(`[a-z]{0,5}`).Draw(t, "event"),
				Retry: time.Duration(rapid.IntRange(0, 99).Draw(t, "retry")) * time.Millisecond,
				Data:  []byte(rapid.StringMatching(`[ -~é\n]{0,40}`).Draw(t, "data")),
			}
			wire = sse.AppendFrame(wire, f)
			wire = sse.AppendComment(wire, "keep-alive")
			want = append(want, f)
		}
		got, err := all(bytes.NewReader(wire), sse.Limits{})
		if err != io.EOF || !reflect.DeepEqual(got, want) {
			t.Fatalf("%q = %+v, %v, want %+v", wire, got, err, want)
		}
	})
}

// TestUTF8AnyCut covers ORC-446: the repaired text does not depend on the cuts
// and is what Go itself makes of the whole.
func TestUTF8AnyCut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		piece := rapid.SampledFrom([]string{"a", "é", "語", "🦙", "\xff", "\xe2", "\xe2\x82", "\x80", "\xf0\x9f", "\xed\xa0\x80", "\xc0\xaf"})
		text := strings.Join(rapid.SliceOfN(piece, 0, 12).Draw(t, "text"), "")
		var u sse.UTF8
		var got []byte
		for rest := text; rest != ""; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "cut")
			got = u.Append(got, []byte(rest[:n]))
			rest = rest[n:]
		}
		got = u.Flush(got)
		if want := string([]rune(text)); string(got) != want {
			t.Fatalf("%q = %q, want %q", text, got, want)
		}
		if n := strings.Count(string(got), "\ufffd"); n != u.Replaced() {
			t.Fatalf("replaced %d, counted %d", n, u.Replaced())
		}
	})
}

func FuzzSSE(f *testing.F) {
	f.Add([]byte("data: a\n\n"), uint8(3))
	f.Add([]byte("\ufeffid: 1\r\nevent: x\r\ndata: {\"a\":\"é\"}\r\n\r\ndata: [DONE]\r\n\r\n"), uint8(1))
	f.Add([]byte(":c\rretry: 10\rdata\rdata: b\r\rdata: cut"), uint8(7))
	f.Add([]byte(strings.Repeat("data: 0123456789\n", 9)), uint8(2))
	f.Fuzz(func(t *testing.T, in []byte, step uint8) {
		lim := sse.Limits{Line: 64, Frame: 128}
		want, wantErr := all(bytes.NewReader(in), lim)
		got, err := all(&stepper{in, int(step)%9 + 1}, lim)
		if err != wantErr || !reflect.DeepEqual(got, want) {
			t.Fatalf("in steps: %+v, %v; at once: %+v, %v", got, err, want, wantErr)
		}
		for _, fr := range want {
			if len(fr.Data) > lim.Frame || bytes.ContainsAny(fr.Data, "\r") || strings.ContainsAny(fr.ID+fr.Event, "\r\n") {
				t.Fatalf("frame %+v", fr)
			}
			back, err := all(bytes.NewReader(sse.AppendFrame(nil, fr)), sse.Limits{})
			if err != io.EOF || len(back) != 1 || !reflect.DeepEqual(back[0], fr) {
				t.Fatalf("%+v came back as %+v, %v", fr, back, err)
			}
		}
	})
}

// stepper delivers n bytes at a time.
type stepper struct {
	in []byte
	n  int
}

func (s *stepper) Read(p []byte) (int, error) {
	if len(s.in) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(s.n, len(p))], s.in)
	s.in = s.in[n:]
	return n, nil
}

func BenchmarkDecode(b *testing.B) {
	one := sse.AppendFrame(nil, sse.Frame{Data: []byte(`{"id":"cmpl-1","object":"text_completion","choices":[{"index":0,"text":" word","finish_reason":null}]}`)})
	in := bytes.Repeat(one, 1000)
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		d := sse.NewDecoder(bytes.NewReader(in), sse.Limits{})
		for {
			if _, err := d.Next(); err != nil {
				break
			}
		}
	}
}
