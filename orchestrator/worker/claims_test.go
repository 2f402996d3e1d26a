package worker_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/llorch/llorch/orchestrator/worker"
)

// TestClaimsAreBounded covers ORC-446 and ORC-447: what an engine says of itself is
// believed within bounds. Numbers beyond them would run over in ledgers; a finish
// reason is stored with the task, where no text of the answer may stand.
func TestClaimsAreBounded(t *testing.T) {
	var answer, finish string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/health":
		case "/v1/models":
			_, _ = io.WriteString(w, `{"data":[{"id":"m","max_model_len":9223372036854775807}]}`)
		case "/props":
			fmt.Fprintf(w, `{"total_slots":9223372036854775807,"build_info":%q,"default_generation_settings":{"n_ctx":9223372036854775807}}`, strings.Repeat("b", 100_000))
		default:
			stream(w, fmt.Sprintf("data: {\"choices\":[{\"text\":\"hi\",\"finish_reason\":%q}],%s}\n\ndata: [DONE]\n\n", finish, answer))
		}
	}))
	defer srv.Close()
	d := newDialer(t, worker.Config{})
	to := worker.Target{URL: srv.URL, Flavour: worker.LlamaCPP}
	st, err := d.Probe(t.Context(), to)
	if err != nil || st.SlotsTotal != 1<<16 || st.CtxMax != 1<<30 || st.Version != "" {
		t.Errorf("Probe() = %d slots, %d of context, version of %d bytes, %v", st.SlotsTotal, st.CtxMax, len(st.Version), err)
	}
	for _, c := range []struct {
		in, out      int
		reason, want string
		usage        worker.Usage
	}{
		{7, 9, "stop", "stop", worker.Usage{In: 7, Out: 9}},
		{1 << 62, 1, "stop", "stop", worker.Usage{Out: 1, Estimated: true}},
		{1, 1 << 62, "tool_calls", "tool_calls", worker.Usage{Out: 1, Estimated: true}},
		{7, 9, "because the user said so", "other", worker.Usage{In: 7, Out: 9}},
		{7, 9, strings.Repeat("s", 65), "other", worker.Usage{In: 7, Out: 9}},
	} {
		answer, finish = fmt.Sprintf(`"usage":{"prompt_tokens":%d,"completion_tokens":%d}`, c.in, c.out), c.reason
		_, last, err := follow(t.Context(), d, to, &worker.Job{Kind: worker.Completion, Prompt: "p"})
		if err != nil || last.Usage != c.usage || last.FinishReason != c.want {
			t.Errorf("usage %d, %d, reason %.20q: %+v, %.20q, %v", c.in, c.out, c.reason, last.Usage, last.FinishReason, err)
		}
	}
}

// TestOneTokenUnderTwoNames covers ORC-447: engines that send a token of reasoning
// under its old and its new name keep the limit on tokens.
func TestOneTokenUnderTwoNames(t *testing.T) {
	const frame = "data: {\"choices\":[{\"delta\":{\"reasoning\":\"hm\",\"reasoning_content\":\"hm\"}}]}\n\n"
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		stream(w, strings.Repeat(frame, 40)+okStream)
	}))
	defer srv.Close()
	_, last, err := follow(t.Context(), newDialer(t, worker.Config{}), worker.Target{URL: srv.URL}, &worker.Job{Kind: worker.Chat, Messages: []byte(`[]`), MaxTokens: 41})
	if err != nil || last.Usage.Out != 41 {
		t.Errorf("%+v, %v, want 41 tokens", last, err)
	}
}
