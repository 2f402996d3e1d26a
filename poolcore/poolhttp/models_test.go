package poolhttp_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/poolcore"
	"github.com/llorch/llorch/poolcore/catalog"
	"github.com/llorch/llorch/poolcore/fetch"
	"github.com/llorch/llorch/poolregistry/nodeapi"
)

// source is a hub that has one model, and gives it when it is told to.
type source struct {
	begun, give chan struct{}
}

func newSource() *source { return &source{begun: make(chan struct{}, 8), give: make(chan struct{}, 8)} }

func (s *source) Resolve(_ context.Context, ref inputvalidation.ModelRef, _ fetch.Options) (fetch.Plan, error) {
	if ref.Path() != "tiny.gguf" {
		return fetch.Plan{}, &fetch.Error{Code: fetch.EntryNotFound, Hint: "no such file"}
	}
	return fetch.Plan{Ref: ref.String(), Files: []fetch.File{{Path: "tiny.gguf", Size: int64(len(gguf()))}}}, nil
}

func (s *source) Download(ctx context.Context, plan fetch.Plan, into *os.Root, progress func(fetch.Progress)) ([]fetch.Got, error) {
	size := plan.Files[0].Size
	progress(fetch.Progress{Phase: fetch.PhaseDownloading, BytesDone: 1, BytesTotal: size, Received: 1, Human: "a line"})
	s.begun <- struct{}{}
	select {
	case <-s.give:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if err := into.WriteFile("one.part", gguf(), 0o600); err != nil {
		return nil, err
	}
	progress(fetch.Progress{Phase: fetch.PhaseVerifying, BytesDone: size, BytesTotal: size, Received: size})
	part, err := inputvalidation.ParseRelPath("part", "one.part")
	return []fetch.Got{{Path: "tiny.gguf", Part: part, Size: size, SHA256: sum(gguf())}}, err
}

// TestFetchAModel (PCO-71, PCO-73): a fetch is an operation with progress that a
// second caller joins, and its bytes are counted once.
func TestFetchAModel(t *testing.T) {
	t.Parallel()
	hub := newSource()
	n := newNode(t, func(cfg *poolcore.Config) { withCatalog(t, cfg, hub) })
	body := `{"model_ref":"` + modelRef + `","sha256":"` + sum(gguf()) + `","tags":["t"],"backends":["llamacpp"]}`
	r := n.op("POST /models/fetch", body)
	o := want[nodeapi.Operation](t, r, 202)
	if o.Kind != "fetch" || r.header.Get("Location") != "../operations/"+o.ID {
		t.Errorf("fetch = %+v, Location %q", o, r.header.Get("Location"))
	}
	<-hub.begun
	joined := want[nodeapi.Operation](t, n.op("POST /models/fetch", body), 202)
	for o.Progress == nil || o.Progress.BytesDone != 1 {
		o = want[nodeapi.Operation](t, n.do("reader", "GET /operations/"+o.ID, ""), 200)
	}
	size := int64(len(gguf()))
	if p := o.Progress; o.State != "running" || o.Phase != "downloading" || p.BytesTotal != size || p.Human != "a line" || p.Pct != 100/float64(size) {
		t.Errorf("on its way: %+v, %+v", o, o.Progress)
	}
	hub.give <- struct{}{}
	for _, o := range []nodeapi.Operation{n.ended(o), n.ended(joined)} {
		if m, ok := o.Result.(map[string]any); o.State != "done" || o.Phase != "done" || !ok || m["id"] != modelRef || m["verification"] != "pass" {
			t.Errorf("fetched: %+v", o)
		}
	}
	if got := n.Stats().FetchedBytes; got != uint64(size) {
		t.Errorf("%d bytes are counted, want %d", got, size)
	}
	again := n.ended(want[nodeapi.Operation](t, n.op("POST /models/fetch", body), 202))
	if again.State != "done" || n.Stats().FetchedBytes != uint64(size) {
		t.Errorf("what is there is fetched again: %+v", again)
	}
	m := want[catalog.Model](t, n.do("reader", "GET /models/"+modelPath, ""), 200)
	if m.ID != modelRef || m.Tags[0] != "t" || m.Backends[0] != "llamacpp" {
		t.Errorf("model = %+v", m)
	}
}

// TestFetchRefusals (PCO-73, PCO-75): what a fetch is refused for, and its cancel.
func TestFetchRefusals(t *testing.T) {
	t.Parallel()
	hub := newSource()
	n := newNode(t, func(cfg *poolcore.Config) { withCatalog(t, cfg, hub) })
	for body, code := range map[string]string{
		`{}`:                      "INVALID_PARAMS",
		`{"model_ref":"hf:"}`:     "INVALID_PARAMS",
		`{"model_ref":"llama-3"}`: "ALIAS_NOT_ALLOWED",
		`{"model_ref":"` + modelRef + `","sha256":"canary"}`:                                       "INVALID_PARAMS",
		`{"model_ref":"hf:acme/tiny@0123456789abcdef0123456789abcdef01234567::file=missing.gguf"}`: "ENTRY_NOT_FOUND",
	} {
		status := 400
		if code == "ENTRY_NOT_FOUND" {
			status = 404
		}
		checkRefusal(t, n.op("POST /models/fetch", body, "Prefer: wait=60"), status, code)
	}
	o := want[nodeapi.Operation](t, n.op("POST /models/fetch", `{"model_ref":"`+modelRef+`"}`), 202)
	<-hub.begun
	want[nodeapi.Operation](t, n.op("DELETE /operations/"+o.ID, ""), 202)
	if o = n.ended(o); o.State != "cancelled" || o.Error.Code != "CANCELLED" || o.Result != nil {
		t.Errorf("cancelled: %+v", o)
	}
	bare := newNode(t, nil)
	checkRefusal(t, bare.op("POST /models/fetch", `{"model_ref":"`+modelRef+`"}`), 501, "UNSUPPORTED")
	checkRefusal(t, bare.op("GET /models/x", ""), 404, "MODEL_NOT_FOUND")
}

// TestModels (PCO-73, PCO-60): the routes of the catalogue; ids with "/" are
// path-escaped.
func TestModels(t *testing.T) {
	t.Parallel()
	var c *catalog.Catalog
	n := newNode(t, func(cfg *poolcore.Config) { c = withCatalog(t, cfg, nil) })
	n.mount("prefix")
	m := addModel(t, c)
	list := want[struct{ Models []catalog.Model }](t, n.do("reader", "GET /models", ""), 200)
	if len(list.Models) != 1 || list.Models[0].ID != modelRef || list.Models[0].Digest != m.Digest {
		t.Errorf("models = %+v", list)
	}
	if got := want[catalog.Model](t, n.do("reader", "GET /models/"+modelPath, ""), 200); got.ID != modelRef {
		t.Errorf("model = %+v", got)
	}
	for _, id := range []string{"x", "..%2F..%2Fetc", "%2e%2e", strings.ReplaceAll(modelPath, "tiny.gguf", "other.gguf")} {
		checkRefusal(t, n.op("GET /models/"+id, ""), 404, "MODEL_NOT_FOUND")
		checkRefusal(t, n.op("DELETE /models/"+id, ""), 404, "MODEL_NOT_FOUND")
		checkRefusal(t, n.op("POST /models/"+id+"/verify", ""), 404, "MODEL_NOT_FOUND")
		checkRefusal(t, n.op("POST /models/"+id+"/state", `{"state":"Active"}`), 404, "MODEL_NOT_FOUND")
	}
	o := n.ended(want[nodeapi.Operation](t, n.op("POST /models/"+modelPath+"/verify", ""), 202))
	if r, ok := o.Result.(map[string]any); o.Kind != "verify" || o.State != "done" || !ok || r["verification"] != "warn" || o.Progress.BytesDone != int64(len(gguf())) {
		t.Errorf("verify = %+v, %+v", o, o.Progress)
	}
	state := "POST /models/" + modelPath + "/state"
	for _, body := range []string{`{"state":"Canary"}`, `{}`, `{"state":1}`, `{"state":"Retired","retire_at":"tomorrow"}`} {
		checkRefusal(t, n.op(state, body), 400, "INVALID_PARAMS")
	}
	got := want[catalog.Model](t, n.op(state, `{"state":"Retired","retire_at":"2030-01-02T03:04:05Z"}`), 200)
	if got.State != catalog.Retired || !got.RetireAt.Equal(time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)) {
		t.Errorf("retired: %+v", got)
	}
	release, err := c.Use(modelRef)
	if err != nil {
		t.Fatal(err)
	}
	remove := "DELETE /models/" + modelPath
	checkRefusal(t, n.op(remove, ""), 409, "MODEL_IN_USE")
	checkRefusal(t, n.op(remove+"?force=canary", ""), 400, "INVALID_PARAMS")
	checkRefusal(t, n.op(remove, "", "X-Request-Timeout-Ms: 0"), 504, "DEADLINE_EXCEEDED")
	release()
	if r := n.op(remove, ""); r.status != 204 || r.body != "" {
		t.Errorf("remove = %d %s", r.status, r.body)
	}
	addModel(t, c)
	if release, err = c.Use(modelRef); err != nil {
		t.Fatal(err)
	}
	defer release()
	if r := n.op(remove+"?force=true", ""); r.status != 204 {
		t.Errorf("remove by force = %d %s", r.status, r.body)
	}
}

// TestVerifyFails (PCO-59): what was changed on the disk is told by the operation.
func TestVerifyFails(t *testing.T) {
	t.Parallel()
	var c *catalog.Catalog
	n := newNode(t, func(cfg *poolcore.Config) { c = withCatalog(t, cfg, nil) })
	addModel(t, c)
	tamper(t, c)
	o := n.ended(want[nodeapi.Operation](t, n.op("POST /models/"+modelPath+"/verify", "", "Prefer: wait=0"), 202))
	if o.State != "failed" || o.Error == nil || o.Error.Code != "DIGEST_MISMATCH" {
		t.Errorf("verify = %+v", o)
	}
}

// tamper changes a byte of the model's file.
func tamper(t testing.TB, c *catalog.Catalog) {
	t.Helper()
	at, err := c.Locate(modelRef)
	if err != nil {
		t.Fatal(err)
	}
	changed := gguf()
	changed[len(changed)-1] ^= 1
	if err := os.Chmod(filepath.Dir(at.Path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(at.Path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at.Path, changed, 0o600); err != nil {
		t.Fatal(err)
	}
}
