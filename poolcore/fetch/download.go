package fetch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/llorch/llorch/inputvalidation"
)

// together is how many files come at once.
const together = 2

// Download brings the files of a plan into a folder and returns them in the
// plan's order, each hashed and on the disk. It continues what is there. An error
// ends the files that still run; what came stays for the next call, but for a
// content that was wrong twice. progress may be nil; it is called by one
// goroutine at a time and must not block.
//
// Failures of connections, silence of 30 s and the statuses 408, 429 and 5xx are
// tried again after 1, 2, 4 … 60 s, or when Retry-After says, up to 5 min; the
// fifth in a row ends the download, unless 16 MiB came in between. There is no
// other limit of time than ctx. Whether the files fit on the disk is looked at by
// the caller; a disk that fills up is InsufficientDisk.
//
// No other download may use the folder until the returned files were moved away.
func (s Sources) Download(ctx context.Context, plan Plan, into *os.Root, progress func(Progress)) ([]Got, error) {
	track := newTracker(plan.Files, progress)
	got, err := s.download(ctx, plan, into, track)
	if err != nil {
		track.phase(PhaseFailed)
		return nil, fmt.Errorf("download model: %w", err)
	}
	track.phase(PhaseVerifying)
	return got, nil
}

func (s Sources) download(ctx context.Context, plan Plan, into *os.Root, track *tracker) ([]Got, error) {
	ref, err := inputvalidation.ParseModelRef("ref", plan.Ref)
	if err != nil {
		return nil, &Error{Code: SourceInvalid, Hint: "the plan has no reference"}
	}
	src, err := s.source(ref)
	if err == nil {
		err = plan.check()
	}
	if err == nil {
		err = removeOthers(into, plan)
	}
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	got := make([]Got, len(plan.Files))
	var next atomic.Int64
	var workers sync.WaitGroup
	for range together {
		workers.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(got)) && ctx.Err() == nil; i = next.Add(1) - 1 {
				j := &job{sources: s, src: src, ref: ref, plan: plan, file: plan.Files[i], into: into, track: track}
				var err error
				if got[i], err = j.run(ctx); err != nil {
					cancel(at(err, plan.Files[i].Path))
				}
			}
		})
	}
	workers.Wait()
	return got, context.Cause(ctx)
}

// job brings one file. It belongs to one goroutine.
type job struct {
	sources Sources
	src     Source
	ref     inputvalidation.ModelRef
	plan    Plan
	file    File
	into    *os.Root
	track   *tracker
	tries   retries
	part    *part
}

// run brings the file; a content that is wrong is asked for once more.
func (j *job) run(ctx context.Context) (got Got, err error) {
	seen := func(n int64) { j.track.moved(j.file.Path, PhaseVerifying, n) }
	if j.part, err = openPart(ctx, j.into, partName(j.plan, j.file), j.file, seen); err != nil {
		return Got{}, err
	}
	got, err = j.bring(ctx)
	if errors.Is(err, DigestMismatch) {
		if err = j.restart(""); err == nil {
			got, err = j.bring(ctx)
		}
	}
	if errors.Is(err, DigestMismatch) {
		return Got{}, errors.Join(err, j.part.remove())
	}
	return got, cmp.Or(err, storageError(j.part.keep()))
}

// restart empties the partial.
func (j *job) restart(tag string) error {
	if j.part.size > 0 {
		j.track.moved(j.file.Path, PhaseDownloading, -j.part.size)
	}
	return storageError(j.part.restart(tag))
}

// bring tries until the file is complete and right.
func (j *job) bring(ctx context.Context) (Got, error) {
	for {
		err := j.try(ctx)
		if err == nil {
			return j.finish()
		}
		if errors.Is(err, RangeRefused) || errors.Is(err, Changed) {
			if e := j.resolveAgain(ctx); e != nil {
				return Got{}, e
			}
		}
		if err := j.sources.again(ctx, &j.tries, err); err != nil {
			return Got{}, err
		}
	}
}

// resolveAgain forgets the partial and asks the source what the file is now. At a
// hub it stays with the commit.
func (j *job) resolveAgain(ctx context.Context) error {
	if err := j.restart(""); err != nil {
		return err
	}
	ref := j.ref
	if j.plan.Repo != "" {
		var err error
		ref, err = inputvalidation.ParseModelRef("ref", "hf:"+j.plan.Repo+"@"+j.plan.Revision+"::file="+j.file.Path)
		if err != nil {
			return nil // no reference can name the file; the commit fixes what it is
		}
	}
	plan, err := j.sources.Resolve(ctx, ref, Options{AllowPickle: true})
	if err != nil {
		return err
	}
	for _, f := range plan.Files {
		if f.Path == j.file.Path {
			f.SHA256 = cmp.Or(j.file.SHA256, f.SHA256) // what was demanded stays demanded
			j.track.resized(j.file.Size, f.Size)
			j.file, j.part.meta = f, metaOf(f)
			return storageError(j.part.restart(""))
		}
	}
	return &Error{Code: EntryNotFound, Hint: "the source has the file no more"}
}

// try asks for what is missing and writes it. A nil error means that the file has
// ended, where the source says that it ends.
func (j *job) try(ctx context.Context) error {
	p := j.part
	if j.file.Size >= 0 && p.size == j.file.Size {
		return nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	from, tag := p.size, p.meta.Tag
	if tag == "" && !p.meta.identified() {
		from = 0 // nothing tells whether what follows belongs to what is here
	}
	if from == 0 {
		tag = ""
	}
	body, err := j.src.Open(ctx, j.file, from, tag)
	if err != nil {
		return err
	}
	defer body.Close()
	if err := j.begin(body, from); err != nil {
		return err
	}
	quiet := time.AfterFunc(stallAfter, func() {
		cancel(&Error{Code: Stalled, Retriable: true, Hint: "no byte came for 30 s"})
		_ = body.Close() // wakes a Read that does not look at ctx
	})
	defer quiet.Stop()
	return j.copy(ctx, body, quiet)
}

// begin compares the head of an answer with what was asked for.
func (j *job) begin(body *Body, from int64) error {
	switch p := j.part; {
	case body.Start != 0 && body.Start != from:
		return &Error{Code: RangeRefused, Retriable: true, Hint: "the source sends another part than the one asked for"}
	case j.file.Size >= 0 && body.Total >= 0 && body.Total != j.file.Size:
		if body.Start > 0 {
			return &Error{Code: RangeRefused, Retriable: true, Hint: "the source states another size than before"}
		}
		return &Error{Code: DigestMismatch, Hint: "the source sends a file of another size"}
	case body.Total > maxSize:
		return &Error{Code: SourceInvalid, Hint: "the file is too large"}
	case j.file.Size < 0 && body.Total < 0 && !body.Ended && !p.meta.identified():
		return &Error{Code: SourceInvalid, Hint: "the server states neither size nor end, and no digest is known"}
	case body.Start > 0 && body.Tag != "" && p.meta.Tag != "" && body.Tag != p.meta.Tag:
		return &Error{Code: Changed, Retriable: true, Hint: "the source continues another content"}
	case body.Start == 0 && (p.size > 0 || p.meta.Tag != body.Tag):
		return j.restart(body.Tag)
	}
	return nil
}

// copy writes the content to the partial. Silence is measured only while the
// source is waited for.
func (j *job) copy(ctx context.Context, body *Body, quiet *time.Timer) error {
	total := j.file.Size
	if total < 0 {
		total = body.Total
	}
	buf := make([]byte, chunk)
	for {
		quiet.Reset(stallAfter)
		n, err := body.Read(buf)
		quiet.Stop()
		if n > 0 {
			if total >= 0 && j.part.size+int64(n) > total || j.part.size+int64(n) > maxSize {
				return &Error{Code: DigestMismatch, Hint: "the source sends more than it states"}
			}
			if _, err := j.part.Write(buf[:n]); err != nil {
				return storageError(err)
			}
			j.tries.received(int64(n))
			j.track.moved(j.file.Path, PhaseDownloading, int64(n))
		}
		switch {
		case errors.Is(err, io.EOF) && total >= 0 && j.part.size < total:
			return &Error{Code: Unreachable, Retriable: true, Hint: "the content ended early"}
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return transportError(ctx, "", err)
		}
	}
}

// finish compares the digest and makes the file durable.
func (j *job) finish() (Got, error) {
	digest, err := j.part.digest()
	if err == nil {
		err = j.part.f.Sync()
	}
	if err != nil {
		return Got{}, storageError(err)
	}
	rel, err := inputvalidation.ParseRelPath("part", j.part.name+partSuffix)
	return Got{Path: j.file.Path, Part: rel, Size: j.part.size, SHA256: digest}, err
}
