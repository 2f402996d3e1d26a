package worker_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/llorch/llorch/orchestrator/worker"
)

const wire = "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}],\"usage\":null}\n\n" +
	"data: {\"choices\":[{\"delta\":{\"reasoning_content\":\"hm\"}}]}\n\n" +
	"data: {\"choices\":[{\"delta\":{\"content\":\"caf\xc3\"}}]}\n\n" +
	"data: {\"choices\":[{\"delta\":{\"content\":\"\xa9 \\ud83e\\udd99\"}}]}\n\n" +
	"data: {\"choices\":[{\"index\":1,\"delta\":{\"content\":\"other\"}}]}\n\n" +
	"data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0}]}}]}\n\n" +
	"data: {\"choices\":[{\"delta\":{\"refusal\":\"no\\u0000\"}}]}\n\n" +
	"data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n" +
	"%s" + "data: [DONE]\n\n"
const usageFrame = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":40}}\n\n"

type eventCase struct {
	usage string // a frame before the last
	job   worker.Job
	kinds []worker.EventKind
	texts []string
	cost  worker.Usage
}

func eventCases() map[string]eventCase {
	return map[string]eventCase{
		"text only": {
			usage: usageFrame, job: worker.Job{Kind: worker.Chat, Messages: []byte("[]")},
			kinds: []worker.EventKind{worker.Token, worker.Token, worker.Token, worker.Done},
			texts: []string{"caf", "é 🦙", "no\x00", ""}, cost: worker.Usage{In: 3, Out: 40},
		},
		"raw": {
			usage: usageFrame, job: worker.Job{Kind: worker.Chat, Raw: []byte("{}"), Stream: true},
			kinds: []worker.EventKind{worker.Frame, worker.Frame, worker.Token, worker.Token, worker.Frame, worker.Frame, worker.Token, worker.Frame, worker.Done},
			texts: []string{"", "", "caf", "é 🦙", "", "", "no\x00", "", ""}, cost: worker.Usage{In: 3, Out: 40},
		},
		"raw with usage": {
			usage: usageFrame, job: worker.Job{Kind: worker.Chat, Raw: []byte("{}"), Stream: true, WantUsage: true},
			kinds: []worker.EventKind{worker.Frame, worker.Frame, worker.Token, worker.Token, worker.Frame, worker.Frame, worker.Token, worker.Frame, worker.Frame, worker.Done},
			texts: []string{"", "", "caf", "é 🦙", "", "", "no\x00", "", "", ""}, cost: worker.Usage{In: 3, Out: 40},
		},
		"no usage": {
			job:   worker.Job{Kind: worker.Chat, Messages: []byte("[]")},
			kinds: []worker.EventKind{worker.Token, worker.Token, worker.Token, worker.Done},
			texts: []string{"caf", "é 🦙", "no\x00", ""}, cost: worker.Usage{Out: 6, Estimated: true},
		},
	}
}

// TestEvents: what each kind of frame becomes, with and without Raw.
func TestEvents(t *testing.T) {
	for name, tc := range eventCases() {
		t.Run(name, func(t *testing.T) {
			body := wire[:len(wire)-len("%sdata: [DONE]\n\n")] + tc.usage + "data: [DONE]\n\n"
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { stream(w, body) }))
			defer srv.Close()
			s, err := newDialer(t, worker.Config{}).Start(t.Context(), worker.Target{URL: srv.URL}, &tc.job)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			var kinds []worker.EventKind
			var texts []string
			var relayed strings.Builder
			var last worker.Event
			for {
				e, err := s.Next()
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				kinds, texts, last = append(kinds, e.Kind), append(texts, e.Text), e
				if (e.Raw != nil) != (tc.job.Raw != nil && e.Kind != worker.Done) {
					t.Errorf("event %+v: Raw", e)
				}
				if e.Raw != nil {
					relayed.WriteString("data: " + string(e.Raw) + "\n\n")
				}
			}
			if !reflect.DeepEqual(kinds, tc.kinds) || !reflect.DeepEqual(texts, tc.texts) {
				t.Errorf("kinds %v, texts %q\nwant  %v, %q", kinds, texts, tc.kinds, tc.texts)
			}
			if last.Usage != tc.cost || last.FinishReason != "stop" {
				t.Errorf("Done = %+v, want usage %+v", last, tc.cost)
			}
			want := body[:len(body)-len("data: [DONE]\n\n")]
			if !tc.job.WantUsage {
				want = want[:len(want)-len(tc.usage)]
			}
			if tc.job.Raw != nil && relayed.String() != want {
				t.Errorf("relayed %q\nwant    %q", relayed.String(), want)
			}
		})
	}
}

// TestHeldBytesAtTheEnd covers ORC-446: what can not be completed is replaced
// and counted.
func TestHeldBytesAtTheEnd(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		stream(w, "data: {\"choices\":[{\"text\":\"a\xff\\n\xe8\xaa\",\"finish_reason\":\"length\"}]}\n\ndata: [DONE]\n\n")
	}))
	defer srv.Close()
	d := newDialer(t, worker.Config{})
	s, err := d.Start(t.Context(), worker.Target{URL: srv.URL}, &worker.Job{Kind: worker.Completion, Prompt: "p"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var text strings.Builder
	for {
		e, err := s.Next()
		if err != nil {
			break
		}
		text.WriteString(e.Text)
	}
	if text.String() != "a\ufffd\n\ufffd\ufffd" || d.Stats().Replaced != 3 {
		t.Errorf("text %q, Stats %+v", text.String(), d.Stats())
	}
}
