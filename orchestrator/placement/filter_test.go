package placement_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/llorch/llorch/orchestrator/placement"
)

var update = flag.Bool("update", false, "write the golden explanations anew")

const gib = 1 << 30

var session = [16]byte{7}

// able is a worker that passes every filter for [wanted].
func able(node, pool string) *placement.Worker {
	return &placement.Worker{
		Key: placement.Key{Node: node, Pool: pool, Worker: "r0"}, Engine: "vllm", Version: "0.9.1", Models: []string{"llama"},
		Digest: "sha256:aa", Quant: "Q4_K_M", Workloads: []string{"chat", "completion"}, Features: []string{"json", "tools"}, Country: "DE", Group: "EU",
		Compute: 89, Mask: []string{"GPU-a", "GPU-b"}, CtxMax: 8192, SlotsTotal: 4, VRAMFree: 10 * gib, VRAMTotal: 48 * gib,
		TokensPerS: 50_000, FirstToken: 80_000_000, Online: true, Ready: true,
	}
}

// wanted asks for something of every filter.
func wanted() placement.Request {
	return placement.Request{
		Model: "llama", Engine: "vllm", Workload: "chat", Digest: "sha256:aa", Ctx: 4096, Prompt: 1000, Expected: 200, Session: session,
		Regions: []string{"EU"},
		Place: placement.Constraints{
			Pool: "chat", Avoid: []string{"batch"}, Version: "0.9.1", Features: []string{"tools"}, Quant: "Q4_K_M", MinCompute: 80,
			Mask: []string{"GPU-a", "GPU-b"}, MinVRAM: 40 * gib, Spread: 2,
		},
	}
}

// spoiled makes a worker or the view fail one filter, and no other.
var spoiled = []struct {
	filter string
	worker func(w *placement.Worker)
	view   func(v *placement.View, w *placement.Worker)
}{
	{"region", func(w *placement.Worker) { w.Country, w.Group = "US", "US" }, nil},
	{"avoid", func(w *placement.Worker) { w.Pool = "batch" }, nil}, // the pin is taken off for it
	{"pin", func(w *placement.Worker) { w.Pool = "other" }, nil},
	{"engine", func(w *placement.Worker) { w.Version = "0.8" }, nil},
	{"workload", func(w *placement.Worker) { w.Workloads = []string{"embedding"} }, nil},
	{"model", func(w *placement.Worker) { w.Models = []string{"qwen"} }, nil},
	{"digest", func(w *placement.Worker) { w.Digest = "" }, nil},
	{"ctx", func(w *placement.Worker) { w.CtxMax = 4095 }, nil},
	{"features", func(w *placement.Worker) { w.Features = []string{"json"} }, nil},
	{"quant", func(w *placement.Worker) { w.Quant = "Q8_0" }, nil},
	{"compute", func(w *placement.Worker) { w.Compute = 75 }, nil},
	{"mask", func(w *placement.Worker) { w.Mask = []string{"GPU-a"} }, nil},
	{"vram", func(w *placement.Worker) { w.VRAMTotal, w.VRAMFree = 24*gib, 24*gib }, nil},
	{"online", func(w *placement.Worker) { w.Online, w.Why = false, "suspect" }, nil},
	{"ready", func(w *placement.Worker) { w.Ready, w.Why = false, "starting" }, nil},
	{"draining", func(w *placement.Worker) { w.Draining = true }, nil},
	{"quarantine", nil, func(v *placement.View, w *placement.Worker) { v.Quarantine(w.Key, true) }},
	{"slots", func(w *placement.Worker) { w.SlotsBusy = 4 }, nil},
	{"memory", func(w *placement.Worker) {
		w.Models, w.OnDisk, w.Many = []string{"qwen"}, []placement.OnDisk{{Model: "llama", Need: 16*gib + 200<<20, Fits: -1}}, true
		w.SlotsBusy = 1
	}, nil},
	{"spread", nil, func(v *placement.View, w *placement.Worker) {
		n := v.Reserved(placement.Key{})
		v.Assign(task(n), 1, w.Key, placement.Request{Session: session})
		v.Assign(task(n+1), 1, placement.Key{Node: w.Node, Pool: "else"}, placement.Request{Session: session})
	}},
}

// spoil returns a view whose workers all fail the given filters, and the request.
func spoil(filters ...int) (*placement.View, placement.Request) {
	v, r := placement.NewView(), wanted()
	list := []*placement.Worker{able("node-1", "chat"), able("node-2", "chat")}
	for _, i := range filters {
		for _, w := range list {
			if spoiled[i].worker != nil {
				spoiled[i].worker(w)
			}
		}
		if spoiled[i].filter == "avoid" {
			r.Place.Pool = ""
		}
	}
	if slices.ContainsFunc(filters, func(i int) bool { return spoiled[i].filter == "pin" }) {
		r.Place.Pool = "chat"
	}
	v.Apply(list)
	for _, i := range filters {
		for _, w := range list {
			if spoiled[i].view != nil {
				spoiled[i].view(v, w)
			}
		}
	}
	return v, r
}

// TestFilterNames: the names and their order are those of the contract (ORC-301).
func TestFilterNames(t *testing.T) {
	list, static := placement.Filters()
	want := strings.Fields("region avoid pin engine workload model digest ctx features quant compute mask vram online ready draining quarantine slots memory spread")
	if !slices.Equal(list, want) || static != 13 {
		t.Errorf("filters = %q, the first %d static, want %q, 13", list, static, want)
	}
	for i, s := range spoiled {
		if s.filter != want[i] {
			t.Errorf("the tests spoil %q at %d, want %q", s.filter, i, want[i])
		}
	}
}

// TestFilters: each filter takes out the worker that fails it and lets the others
// pass; of two that fail the earlier one is named (ORC-301).
func TestFilters(t *testing.T) {
	v, r := spoil()
	if d := placement.Decide(v, r, placement.Policy{}); d.Worker == nil || placement.Binding(v, r) != "" {
		t.Fatalf("an able worker is not chosen: %+v, binding %q", d, placement.Binding(v, r))
	}
	_, static := placement.Filters()
	for i, s := range spoiled {
		v, r := spoil(i)
		d, e := placement.Decide(v, r, placement.Policy{}), placement.Explain(v, r, placement.Policy{})
		if d.Worker != nil || d.Load != nil || d.Filter != s.filter {
			t.Errorf("%s: Decide = %+v", s.filter, d)
		}
		if len(e.Filters) != 1 || e.Filters[0] != (placement.Removed{Name: s.filter, Removed: 2, Example: e.Filters[0].Example}) || e.Feasible != 0 {
			t.Errorf("%s: filters = %+v", s.filter, e.Filters)
		}
		if len(e.Without) != 1 || e.Without[0].Filter != s.filter || e.Without[0].Workers != 2 || e.Without[0].Words == "" || strings.Contains(e.Without[0].Words, "%!") {
			t.Errorf("%s: counterfactual = %+v, want both workers without this filter", s.filter, e.Without)
		}
		want := ""
		if i < static || slices.Contains([]string{"online", "ready", "draining"}, s.filter) {
			want = s.filter
		}
		if got := placement.Binding(v, r); got != want {
			t.Errorf("%s: Binding = %q, want %q", s.filter, got, want)
		}
		if next := i + 1; next < len(spoiled) && s.filter != "slots" && s.filter != "avoid" && !(s.filter == "model" || s.filter == "memory") {
			v, r := spoil(i, next)
			if d := placement.Decide(v, r, placement.Policy{}); d.Filter != s.filter {
				t.Errorf("%s and %s fail: filter %q", s.filter, spoiled[next].filter, d.Filter)
			}
		}
	}
}

// TestFilterEdges: what is just enough passes, what is not known is no proof
// (ORC-301).
func TestFilterEdges(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(w *placement.Worker, r *placement.Request)
		want string // filter, "" = chosen
	}{
		"ctx equal":        {func(w *placement.Worker, r *placement.Request) { r.Ctx = 8192 }, ""},
		"ctx one more":     {func(w *placement.Worker, r *placement.Request) { r.Ctx = 8193 }, "ctx"},
		"ctx unknown":      {func(w *placement.Worker, r *placement.Request) { w.CtxMax, r.Ctx = 0, 1<<20 }, ""},
		"vram equal":       {func(w *placement.Worker, r *placement.Request) { r.Place.MinVRAM = 48 * gib }, ""},
		"vram unknown":     {func(w *placement.Worker, r *placement.Request) { w.VRAMTotal = 0 }, "vram"},
		"compute equal":    {func(w *placement.Worker, r *placement.Request) { r.Place.MinCompute = 89 }, ""},
		"compute unknown":  {func(w *placement.Worker, r *placement.Request) { w.Compute = 0 }, "compute"},
		"quant unknown":    {func(w *placement.Worker, r *placement.Request) { w.Quant = "" }, "quant"},
		"workload unknown": {func(w *placement.Worker, r *placement.Request) { w.Workloads = nil }, ""},
		"features unknown": {func(w *placement.Worker, r *placement.Request) { w.Features = nil }, "features"},
		"mask larger":      {func(w *placement.Worker, r *placement.Request) { w.Mask = []string{"GPU-a", "GPU-b", "GPU-c"} }, "mask"},
		"country":          {func(w *placement.Worker, r *placement.Request) { r.Regions = []string{"FR", "DE"} }, ""},
		"another country":  {func(w *placement.Worker, r *placement.Request) { r.Regions = []string{"FR"} }, "region"},
		"no region left":   {func(w *placement.Worker, r *placement.Request) { r.Regions = []string{} }, "region"},
		"all regions":      {func(w *placement.Worker, r *placement.Request) { r.Regions, w.Country, w.Group = nil, "", "" }, ""},
		"region unknown": {func(w *placement.Worker, r *placement.Request) {
			w.Country, w.Group, r.Regions = "", "UNKNOWN", []string{"EU", "UNKNOWN", ""}
		}, "region"},
		"region empty":       {func(w *placement.Worker, r *placement.Request) { w.Country, w.Group, r.Regions = "", "", []string{""} }, "region"},
		"pinned to the node": {func(w *placement.Worker, r *placement.Request) { r.Place.Node = "n" }, ""},
		"pinned elsewhere":   {func(w *placement.Worker, r *placement.Request) { r.Place.Node = "m" }, "pin"},
		"auto knows no pin":  {func(w *placement.Worker, r *placement.Request) { r.Place.Mode, r.Place.Node = "auto", "m" }, ""},
		"unknown mode pins":  {func(w *placement.Worker, r *placement.Request) { r.Place.Mode, r.Place.Node = "near", "m" }, "pin"},
		"on demand": {func(w *placement.Worker, r *placement.Request) {
			w.OnDemand, w.Models, w.OnDisk = true, []string{"llama"}, []placement.OnDisk{{Model: "llama"}}
		}, ""},
		"on demand from disk": {func(w *placement.Worker, r *placement.Request) {
			w.OnDemand, w.Models, w.OnDisk = true, []string{"qwen"}, []placement.OnDisk{{Model: "llama"}}
		}, ""},
		"on demand, digest": {func(w *placement.Worker, r *placement.Request) {
			w.OnDemand, w.Models, w.Digest = true, []string{"llama"}, ""
		}, "digest"},
		"foreign and ours":    {func(w *placement.Worker, r *placement.Request) { w.SlotsBusy = 3 }, ""},
		"spread not reached":  {func(w *placement.Worker, r *placement.Request) { r.Place.Spread = 1 }, ""},
		"the other version":   {func(w *placement.Worker, r *placement.Request) { r.Place.Version = "0.9" }, "engine"},
		"more slots than all": {func(w *placement.Worker, r *placement.Request) { w.SlotsBusy = 9 }, "slots"},
	} {
		w, r := able("n", "chat"), wanted()
		c.edit(w, &r)
		v := placement.NewView()
		v.Apply([]*placement.Worker{w})
		if d := placement.Decide(v, r, placement.Policy{}); d.Filter != c.want || (d.Worker != nil) != (c.want == "") {
			t.Errorf("%s: Decide = %+v, want filter %q", name, d, c.want)
		}
	}
}

// golden is why nothing runs, per filter, as JSON; also of what is no filter.
func golden(t *testing.T) map[string]string {
	t.Helper()
	out := make(map[string]string)
	add := func(name string, v *placement.View, r placement.Request) {
		b, err := json.MarshalIndent(placement.Explain(v, r, placement.Policy{}), "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		out[name] = string(b)
	}
	for i, s := range spoiled {
		v, r := spoil(i)
		add(s.filter, v, r)
	}
	add("empty", placement.NewView(), wanted())
	v, r := spoil()
	v.Reserve(task(1), 1, placement.Key{Node: "node-1", Pool: "chat", Worker: "r0"})
	add("chosen", v, r)
	w := able("node-3", "chat")
	w.Models, w.OnDisk = []string{"qwen"}, []placement.OnDisk{{Model: "llama", Need: 12 * gib}}
	w.VRAMUsed = 8 * gib
	v.Apply([]*placement.Worker{w})
	add("model_loading", v, r)
	return out
}

// TestFirstBindingReason: for each filter the explanation names it, in words, and
// what would be enough (ORC-309, ORC-310). A worker that is not ready is never told as
// lack of memory.
func TestFirstBindingReason(t *testing.T) {
	got := golden(t)
	if *update {
		b, err := json.MarshalIndent(raw(got), "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile("testdata/why.json", append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile("testdata/why.json")
	if err != nil {
		t.Fatal(err)
	}
	var want map[string]json.RawMessage
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(asText(t, want), got); diff != "" {
		t.Errorf("explanations (-golden +now):\n%s", diff)
	}

	starting, full := able("node-1", "chat"), able("node-2", "chat")
	starting.Ready = false
	full.Models, full.OnDisk, full.Many = []string{"qwen"}, []placement.OnDisk{{Model: "llama", Need: 99 * gib}}, true
	full.VRAMTotal = 100 * gib
	v := placement.NewView()
	v.Apply([]*placement.Worker{starting, full})
	if d := placement.Decide(v, wanted(), placement.Policy{}); d.Filter != "ready" {
		t.Errorf("one worker starts, another has no memory: filter %q, want ready", d.Filter)
	}
}

func raw(m map[string]string) map[string]json.RawMessage {
	out := make(map[string]json.RawMessage)
	for k, v := range m {
		out[k] = json.RawMessage(v)
	}
	return out
}

func asText(t *testing.T, m map[string]json.RawMessage) map[string]string {
	t.Helper()
	out := make(map[string]string)
	for k, v := range m {
		var e placement.Explanation
		if err := json.Unmarshal(v, &e); err != nil {
			t.Fatal(err)
		}
		b, err := json.MarshalIndent(e, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		out[k] = string(b)
	}
	return out
}

// TestExplainDocumented: the examples of the page are what the code says.
func TestExplainDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/explain.md")
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("the module stands alone: no page to compare with")
	}
	if err != nil {
		t.Fatal(err)
	}
	got, shown := golden(t), 0
	for part := range strings.SplitSeq(string(page), "\n## ") {
		name, _, _ := strings.Cut(part, "\n")
		_, block, ok := strings.Cut(part, "```json\n")
		if block, _, _ = strings.Cut(block, "\n```"); !ok {
			continue
		}
		if shown++; got[name] != block {
			t.Errorf("%s: the page differs from the code:\n%s", name, cmp.Diff(block, got[name]))
		}
	}
	if shown < 6 {
		t.Errorf("the page shows %d explanations, want at least 6", shown)
	}
	list, _ := placement.Filters()
	for _, f := range list {
		if !strings.Contains(string(page), fmt.Sprintf("| `%s` |", f)) {
			t.Errorf("the page does not list the filter %s", f)
		}
	}
}

// TestCounterfactual: only who fails one filter alone counts for it, and of numbers
// the smallest amount is told (ORC-309).
func TestCounterfactual(t *testing.T) {
	two, near, far := able("a", "chat"), able("b", "chat"), able("c", "chat")
	two.Ready, two.CtxMax = false, 4000 // fails two: neither would be enough
	far.CtxMax, near.CtxMax = 1000, 3000
	e := placement.Explain(viewOf(two, near, far), wanted(), placement.Policy{})
	want := []placement.Counterfactual{{Filter: "ctx", Workers: 2, Worker: near.Key.String(), Missing: 1096, Words: "1096 tokens too many for b/chat/r0"}}
	if diff := cmp.Diff(want, e.Without); diff != "" {
		t.Error(diff)
	}
	if e := placement.Explain(viewOf(able("a", "chat")), wanted(), placement.Policy{}); e.Without != nil {
		t.Errorf("with a winner: %+v", e.Without)
	}
}
