package catalog

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path"
	"sync"

	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/poolcore/fetch"
)

// Sources brings model files to this machine. fetch.Sources is one.
type Sources interface {
	// Resolve finds out which files ref stands for.
	Resolve(ctx context.Context, ref inputvalidation.ModelRef, o fetch.Options) (fetch.Plan, error)
	// Download brings the files of plan into a directory and goes on with what an
	// earlier call left there.
	Download(ctx context.Context, plan fetch.Plan, into *os.Root, progress func(fetch.Progress)) ([]fetch.Got, error)
}

var _ Sources = fetch.Sources{}

// EnsureOptions says what the caller knows of a model that is to be fetched.
type EnsureOptions struct {
	SHA256         string   // as Put.SHA256
	Tags, Backends []string // as in Put
}

// Fetch is a model on its way. Its methods are safe for concurrent use.
type Fetch struct {
	id     string
	pin    string // expected digest, "" = none
	cancel context.CancelFunc
	done   chan struct{}

	mu       sync.Mutex
	progress fetch.Progress
	discard  bool
	model    Model // after done
	err      error // after done
}

// Wait returns the model once it is there. When ctx ends first, the fetch goes on.
func (f *Fetch) Wait(ctx context.Context) (Model, error) {
	select {
	case <-f.done:
		return f.model.clone(), f.err
	case <-ctx.Done():
		return Model{}, ctx.Err()
	}
}

// Progress returns how far the fetch is.
func (f *Fetch) Progress() fetch.Progress {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.progress
}

// Cancel ends the fetch for everybody who waits for it. What was downloaded stays
// for the next Ensure, unless discard is set. It does not wait.
func (f *Fetch) Cancel(discard bool) {
	f.mu.Lock()
	f.discard = f.discard || discard
	f.mu.Unlock()
	f.cancel()
}

func (f *Fetch) set(p fetch.Progress) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p.Op = "fetch"
	f.progress = p
}

// phase reports what is done after the download. The counters stay, so that they
// never fall; human "" keeps the line.
func (f *Fetch) phase(name, human string) {
	p := f.Progress()
	p.Phase, p.Rate, p.ETAMS, p.Human = name, 0, 0, cmp.Or(human, p.Human)
	f.set(p)
}

func (f *Fetch) verified(done, total int64) {
	f.phase(fetch.PhaseVerifying, fmt.Sprintf("%d %% verified", 100*done/max(total, 1)))
}

// Ensure makes sure that the model of ref is there. What is there, verified and
// looks as it did is done at once; else one fetch runs for each reference, and
// later callers join it. It goes on after ctx ends, which bounds only the look at
// what is there; [Fetch.Cancel] and [Catalog.Close] end it.
func (c *Catalog) Ensure(ctx context.Context, ref string, o EnsureOptions) (*Fetch, error) {
	parsed, id, err := parseRef(ref)
	if err != nil {
		return nil, err
	}
	before, _ := c.Get(id)
	if at, err := c.Ready(ctx, ref); err == nil && (o.SHA256 == "" || at.hasDigest(o.SHA256)) {
		return finished(at.Model), nil
	} else if errors.Is(err, ModelRetired) || ctx.Err() != nil {
		return nil, err
	}
	d, err := c.draft(Put{Ref: ref, SHA256: o.SHA256, Tags: o.Tags, Backends: o.Backends})
	if err != nil {
		return nil, err
	}
	if c.cfg.Sources == nil {
		return nil, refuse(Untrusted, "no source is configured that could bring the model")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if f, ok := c.fetches[id]; ok && f.pin == d.pin {
		return f, nil
	} else if ok {
		return nil, refuse(ModelInUse, "a fetch that expects another digest is under way")
	}
	now, _ := c.Get(id)
	if now.AddedAt.After(before.AddedAt) && (d.pin == "" || now.hasDigest(d.pin)) {
		return finished(now), nil // another fetch has just ended
	}
	if err := c.idleLocked(id); err != nil && (now.Verification != Fail || c.closed) {
		return nil, err
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f := &Fetch{id: id, pin: d.pin, cancel: cancel, done: make(chan struct{})}
	f.progress = fetch.Progress{Op: "fetch", Phase: fetch.PhaseResolving, BytesTotal: -1, ETAMS: -1}
	c.fetches[id] = f
	c.work.Go(func() { c.run(run, f, parsed, d) })
	return f, nil
}

// finished is the fetch of what is there.
func finished(m Model) *Fetch {
	f := &Fetch{id: m.ID, cancel: func() {}, done: make(chan struct{}), model: m}
	f.progress = fetch.Progress{Op: "fetch", Phase: fetch.PhaseDone, BytesDone: m.SizeBytes, BytesTotal: m.SizeBytes, Pct: 100}
	close(f.done)
	return f
}

// run fetches in the background and tells everybody.
func (c *Catalog) run(ctx context.Context, f *Fetch, ref inputvalidation.ModelRef, d draft) {
	defer f.cancel()
	f.model, f.err = c.fetch(ctx, f, ref, d)
	last := fetch.PhaseDone
	if f.err != nil {
		last = fetch.PhaseFailed
	}
	f.phase(last, "")
	c.mu.Lock()
	delete(c.fetches, f.id)
	c.mu.Unlock()
	close(f.done)
}

// fetch resolves, downloads, verifies and commits one model.
func (c *Catalog) fetch(ctx context.Context, f *Fetch, ref inputvalidation.ModelRef, d draft) (Model, error) {
	o := fetch.Options{SHA256: d.pin, Strict: c.cfg.Trust.Strict, AllowPickle: c.cfg.Trust.AllowPickle}
	plan, err := c.cfg.Sources.Resolve(ctx, ref, o)
	if err != nil {
		return Model{}, fetchError(err)
	}
	if err := d.follow(plan, c.cfg.Trust); err != nil {
		return Model{}, err
	}
	sum := sha256.Sum256([]byte(f.id))
	dir := partialDir + "/" + fetchPrefix + hex.EncodeToString(sum[:16])
	if err := c.makeDir(dir); err != nil {
		return Model{}, err
	}
	m, err := c.bring(ctx, f, plan, dir, d)
	f.mu.Lock()
	discard := f.discard || err == nil || errors.Is(err, DigestMismatch)
	f.mu.Unlock()
	if discard {
		c.drop(dir)
	}
	return m, err
}

// bring downloads into dir, verifies what came where it lies, so that a cancelled
// fetch loses nothing, and commits.
func (c *Catalog) bring(ctx context.Context, f *Fetch, plan fetch.Plan, dir string, d draft) (Model, error) {
	if err := c.checkRemaining(dir, plan); err != nil {
		return Model{}, err
	}
	into, err := c.root.OpenRoot(dir)
	if err != nil {
		return Model{}, fmt.Errorf("open partial download: %w", err)
	}
	got, err := c.cfg.Sources.Download(ctx, plan, into, f.set)
	_ = into.Close() // a directory handle: nothing can be lost
	if err != nil {
		return Model{}, fetchError(err)
	}
	meter := &meter{report: f.verified}
	var parts []string
	for _, g := range got {
		parts, meter.total = append(parts, g.Part.String()), meter.total+g.Size
	}
	files, err := c.hashAll(ctx, dir, parts, meter)
	if err != nil {
		return Model{}, err
	}
	for i, g := range got {
		files[i].Path = g.Path
	}
	if err := c.judge(&d, files); err != nil {
		return Model{}, err
	}
	f.phase(fetch.PhaseCommitting, "")
	return c.adopt(dir, got, d.model)
}

// adopt moves files that were downloaded to dir into a stage and commits. When the
// model came into use meanwhile they stay where they are.
func (c *Catalog) adopt(dir string, got []fetch.Got, m Model) (Model, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	if err := c.replaceable(m.ID); err != nil {
		return Model{}, err
	}
	stage := fresh(partialDir, putPrefix)
	defer c.drop(stage)
	for _, g := range got {
		from, to := dir+"/"+g.Part.String(), stage+"/"+g.Path
		if err := c.makeDir(path.Dir(to)); err != nil {
			return Model{}, err
		}
		if err := errors.Join(c.sync(from), c.root.Rename(from, to)); err != nil {
			return Model{}, c.writeError("move downloaded file", err)
		}
	}
	return c.commit(stage, m)
}

// follow takes what the plan says of the model: digests and source.
func (d *draft) follow(plan fetch.Plan, t Trust) error {
	d.sums = map[string]string{}
	var paths []string
	for _, p := range plan.Files {
		if _, err := inputvalidation.ParseRelPath("plan", p.Path); err != nil {
			return fmt.Errorf("check file name: %w", err)
		}
		paths = append(paths, p.Path)
		d.sums[p.Path] = p.SHA256
	}
	d.model.Source = Source{URL: plan.URL, Repo: plan.Repo, Revision: plan.Revision}
	if len(plan.Files) == 1 {
		d.model.Source.ETag = plan.Files[0].ETag
	}
	_, err := t.formatOf(paths)
	return err
}

// checkRemaining refuses a download that would fill the disk. What is in the
// partial directory need not come again.
func (c *Catalog) checkRemaining(dir string, plan fetch.Plan) error {
	there, err := c.entries(dir)
	if err != nil {
		return err
	}
	var need int64
	for _, f := range plan.Files {
		need += max(f.Size, 0)
	}
	for _, fi := range there {
		need -= fi.Size()
	}
	return c.checkSpace(need)
}

// fetchError gives a refusal of package fetch its code here.
func fetchError(err error) error {
	if e, ok := errors.AsType[*fetch.Error](err); ok {
		return &Error{Code: Code(e.Code), Detail: e.Hint, Cause: err}
	}
	return err
}

// DiscardPartials removes all unfinished downloads. Those that run are not touched.
func (c *Catalog) DiscardPartials() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return refuse(Closed, "")
	}
	if len(c.fetches) == 0 {
		c.clear(fetchPrefix)
	}
	return nil
}
