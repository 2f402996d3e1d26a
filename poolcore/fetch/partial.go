package fetch

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/llorch/llorch/inputvalidation"
)

const (
	partSuffix = ".part"
	metaSuffix = ".json"
	tempSuffix = ".new" // of a description that is being written
	maxMeta    = 64 << 10
	// syncEvery is how often a file that nothing but its tag identifies reaches
	// the disk: after a power cut the rest of it may be zeros.
	syncEvery = 256 << 20
	chunk     = 1 << 20
)

// meta says what the bytes of a partial file belong to. It lies beside them.
type meta struct {
	Schema int `json:"schema"` // 1
	File
	Tag    string `json:"tag"`    // of Body; "" until an answer said one
	Synced int64  `json:"synced"` // bytes that are on the disk for certain
}

func metaOf(f File) meta { return meta{Schema: 1, File: f} }

// parseMeta refuses what writeMeta does not write.
func parseMeta(data []byte) (meta, error) {
	var m meta
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if inputvalidation.CheckJSON("partial", data, maxMeta) != nil || d.Decode(&m) != nil || m.Schema != 1 ||
		m.check() != nil || m.Synced < 0 || m.Synced > maxSize || m.Tag != strongTag(m.Tag) {
		return meta{}, &Error{Code: Storage, Hint: "the description of a partial file is damaged"}
	}
	return m, nil
}

// identified reports whether the whole file will be compared with a digest.
func (f File) identified() bool { return f.SHA256 != "" || f.GitSHA1 != "" }

// partName is the name of a file's partial without its suffix. Names of one
// file in several revisions have the same first half.
func partName(plan Plan, f File) string {
	which := sha256.Sum256([]byte(cmp.Or(plan.Repo, f.URL) + "\x00" + f.Path))
	version := sha256.Sum256([]byte(plan.Revision))
	return hex.EncodeToString(which[:16]) + hex.EncodeToString(version[:8])
}

// part is an open partial file. It belongs to one goroutine.
type part struct {
	into *os.Root
	name string
	f    *os.File
	meta meta
	size int64     // bytes in f, all of them hashed
	sum  hash.Hash // SHA-256
	git  hash.Hash // SHA-1 of the git blob
}

// openPart opens the partial of f: with what is there of this content, hashed
// again, else empty. seen hears of each byte that was there.
func openPart(ctx context.Context, into *os.Root, name string, f File, seen func(int64)) (*part, error) {
	file, err := openRegular(into, name+partSuffix)
	if err != nil {
		return nil, storageError(err)
	}
	p := &part{into: into, name: name, f: file, meta: metaOf(f)}
	if old := readMeta(into, name+metaSuffix); old.File == f {
		p.meta = old
		err = p.rehash(ctx, seen)
	} else {
		err = p.restart("")
	}
	if err != nil {
		_ = file.Close() // the first error is the one to act on
		return nil, storageError(err)
	}
	return p, nil
}

// openRegular opens or makes a regular file for reading and writing. A symbolic
// link in its place is removed, anything else refused.
func openRegular(into *os.Root, name string) (*os.File, error) {
	fi, err := into.Lstat(name)
	switch {
	case err != nil || fi.Mode().IsRegular():
	case fi.Mode()&fs.ModeSymlink == 0:
		return nil, errors.New("not a regular file")
	default:
		if err := into.Remove(name); err != nil {
			return nil, err
		}
	}
	return into.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
}

// readMeta reads a description; the zero meta stands for one that is missing or
// not ours.
func readMeta(into *os.Root, name string) meta {
	fi, err := into.Lstat(name)
	if err != nil || !fi.Mode().IsRegular() || fi.Size() > maxMeta {
		return meta{}
	}
	data, err := into.ReadFile(name)
	if err != nil {
		return meta{}
	}
	m, _ := parseMeta(data) // zero after an error
	return m
}

// writeMeta replaces the description in one step. (A Tree's WriteFile does the
// same; but the file beside it has to be continued, which a Tree never does.)
func (p *part) writeMeta() error {
	data, err := json.Marshal(p.meta)
	if err != nil {
		return err
	}
	temp := p.name + tempSuffix
	_ = p.into.Remove(temp) // what stays is found by O_EXCL
	f, err := p.into.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return p.into.Rename(temp, p.name+metaSuffix)
}

// rehash hashes what is there and cuts off what is not certain.
func (p *part) rehash(ctx context.Context, seen func(int64)) error {
	fi, err := p.f.Stat()
	if err != nil {
		return err
	}
	have := fi.Size()
	if !p.meta.identified() {
		have = min(have, p.meta.Synced)
	}
	if p.meta.Size >= 0 && have > p.meta.Size {
		have = 0
	}
	if err := p.f.Truncate(have); err != nil {
		return err
	}
	p.reset()
	buf := make([]byte, chunk)
	for p.size < have && err == nil && ctx.Err() == nil {
		var n int
		n, err = p.f.Read(buf[:min(chunk, have-p.size)])
		p.hash(buf[:n])
		seen(int64(n))
	}
	return cmp.Or(err, ctx.Err())
}

// reset forgets what was hashed.
func (p *part) reset() {
	p.size, p.sum, p.git = 0, sha256.New(), sha1.New()
	fmt.Fprintf(p.git, "blob %d\x00", p.meta.Size)
}

func (p *part) hash(b []byte) {
	p.sum.Write(b)
	if p.byBlob() {
		p.git.Write(b)
	}
	p.size += int64(len(b))
}

// byBlob reports whether the id of the git blob is all that is known of the content.
func (p *part) byBlob() bool { return p.meta.SHA256 == "" && p.meta.GitSHA1 != "" }

// restart empties the file and says what the next bytes will be. The emptiness
// is on the disk before the new tag, so that no crash mixes two contents.
func (p *part) restart(tag string) error {
	_, err := p.f.Seek(0, io.SeekStart)
	if err := errors.Join(err, p.f.Truncate(0), p.f.Sync()); err != nil {
		return err
	}
	p.reset()
	p.meta.Tag, p.meta.Synced = tag, 0
	return p.writeMeta()
}

// Write appends to the file and its hash.
func (p *part) Write(b []byte) (int, error) {
	n, err := p.f.Write(b)
	p.hash(b[:n])
	if err != nil {
		return n, err
	}
	return n, p.sync(syncEvery)
}

// sync makes bytes certain that nothing but their tag identifies, when there are
// so many new ones.
func (p *part) sync(most int64) error {
	if p.meta.identified() || p.size-p.meta.Synced < most {
		return nil
	}
	if err := p.f.Sync(); err != nil {
		return err
	}
	p.meta.Synced = p.size
	return p.writeMeta()
}

// digest returns the SHA-256 of the whole file, or that it is not the one asked for.
func (p *part) digest() (string, error) {
	got := hex.EncodeToString(p.sum.Sum(nil))
	if p.meta.SHA256 != "" && got != p.meta.SHA256 || p.byBlob() && hex.EncodeToString(p.git.Sum(nil)) != p.meta.GitSHA1 {
		return "", &Error{Code: DigestMismatch, Hint: "the content is not the one that was promised"}
	}
	return got, nil
}

// keep leaves the bytes for the next run.
func (p *part) keep() error { return errors.Join(p.sync(1), p.f.Close()) }

// remove removes file and description.
func (p *part) remove() error { return errors.Join(removePart(p.into, p.name), p.f.Close()) }

func removePart(into *os.Root, name string) error {
	var errs []error
	for _, suffix := range []string{partSuffix, metaSuffix, tempSuffix} {
		if err := into.Remove(name + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, storageError(err))
		}
	}
	return errors.Join(errs...)
}

// Discard removes what a folder holds of a plan: partial files, and after the
// finished ones were moved away the descriptions that are left.
func Discard(into *os.Root, plan Plan) error {
	var errs []error
	for _, f := range plan.Files {
		errs = append(errs, removePart(into, partName(plan, f)))
	}
	return errors.Join(errs...)
}

// removeOthers removes the partials that files of a plan have in other revisions.
func removeOthers(into *os.Root, plan Plan) error {
	current := map[string]string{} // by the first half
	for _, f := range plan.Files {
		name := partName(plan, f)
		current[name[:32]] = name
	}
	entries, err := fs.ReadDir(into.FS(), ".")
	if err != nil {
		return storageError(err)
	}
	for _, e := range entries {
		stem, isPart := strings.CutSuffix(e.Name(), partSuffix)
		if !isPart || len(stem) < 32 || stem == current[stem[:32]] || current[stem[:32]] == "" {
			continue
		}
		if err := removePart(into, stem); err != nil {
			return err
		}
	}
	return nil
}
