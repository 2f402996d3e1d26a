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
	"hash"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/llorch/llorch/inputvalidation"
)

const (
	partSuffix = ".part"
	metaSuffix = ".json"
	maxMeta    = 64 << 10
	// syncEvery is how often a file that nothing but its tag identifies reaches
	// the disk: after a power cut the rest of it may be zeros.
	syncEvery = 256 << 20
	chunk     = 1 << 20
)

// meta says what the bytes of a partial file belong to. It lies beside them.
type meta struct {
	Schema  int    `json:"schema"` // 1
	URL     string `json:"url"`    // without query
	ETag    string `json:"etag"`   // of File
	Size    int64  `json:"size"`
	SHA256  string `json:"sha256"`
	GitSHA1 string `json:"git_sha1"`
	Tag     string `json:"tag"`    // of Body; "" until an answer said one
	Synced  int64  `json:"synced"` // bytes that are on the disk for certain
}

func metaOf(f File) meta {
	return meta{Schema: 1, URL: f.URL, ETag: f.ETag, Size: f.Size, SHA256: f.SHA256, GitSHA1: f.GitSHA1}
}

// parseMeta refuses what writeMeta does not write.
func parseMeta(data []byte) (meta, error) {
	bad := &Error{Code: Storage, Hint: "the description of a partial file is damaged"}
	if inputvalidation.CheckJSON("partial", data, maxMeta) != nil {
		return meta{}, bad
	}
	var m meta
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if d.Decode(&m) != nil || m.Schema != 1 || m.Size < -1 || m.Size > maxSize || m.Synced < 0 || m.Synced > maxSize ||
		len(m.URL) > maxURL || len(m.ETag) > maxTag || m.Tag != strongTag(m.Tag) {
		return meta{}, bad
	}
	return m, nil
}

// continues reports whether bytes described by m are the beginning of f.
func (m meta) continues(f File) bool {
	m.Tag, m.Synced = "", 0
	return m == metaOf(f)
}

// identified reports whether the whole file will be compared with a digest.
func (m meta) identified() bool { return m.SHA256 != "" || m.GitSHA1 != "" }

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
	git  hash.Hash // SHA-1 of the git blob; nil when not asked for
}

// openPart opens the partial of f: with what is there of this content, hashed
// again, else empty. seen hears of each byte that was there.
func openPart(ctx context.Context, into *os.Root, name string, f File, seen func(int64)) (*part, error) {
	file, err := openRegular(into, name+partSuffix)
	if err != nil {
		return nil, storageError(err)
	}
	p := &part{into: into, name: name, f: file, meta: metaOf(f)}
	old, err := readMeta(into, name)
	if err == nil && old.continues(f) {
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
	before, err := into.Lstat(name)
	if err == nil && before.Mode()&fs.ModeSymlink == 0 && !before.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	if err == nil && before.Mode()&fs.ModeSymlink != 0 {
		if err := into.Remove(name); err != nil {
			return nil, err
		}
		err = fs.ErrNotExist
	}
	if errors.Is(err, fs.ErrNotExist) {
		return into.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	}
	if err != nil {
		return nil, err
	}
	f, err := into.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	after, err := f.Stat()
	if err == nil && (!after.Mode().IsRegular() || !os.SameFile(before, after)) {
		err = errors.New("the file was replaced")
	}
	if err != nil {
		_ = f.Close() // nothing was written
		return nil, err
	}
	return f, nil
}

// readMeta reads the description of a partial.
func readMeta(into *os.Root, name string) (meta, error) {
	fi, err := into.Lstat(name + metaSuffix)
	if err != nil || !fi.Mode().IsRegular() {
		return meta{}, fs.ErrNotExist
	}
	f, err := openRegular(into, name+metaSuffix)
	if err != nil {
		return meta{}, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxMeta+1))
	if err != nil {
		return meta{}, err
	}
	return parseMeta(data)
}

// writeMeta replaces the description in one step. (A Tree's WriteFile does the
// same; but the file beside it has to be continued, which a Tree never does.)
func (p *part) writeMeta() error {
	data, err := json.Marshal(p.meta)
	if err != nil {
		return err
	}
	temp := p.name + ".new"
	if err := p.into.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := p.into.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
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
	for p.size < have {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := p.f.Read(buf[:min(int64(len(buf)), have-p.size)])
		if err != nil {
			return err
		}
		p.hash(buf[:n])
		seen(int64(n))
	}
	return nil
}

// reset forgets what was hashed.
func (p *part) reset() {
	p.size, p.sum, p.git = 0, sha256.New(), nil
	if p.meta.SHA256 == "" && p.meta.GitSHA1 != "" {
		p.git = sha1.New()
		p.git.Write([]byte("blob " + strconv.FormatInt(p.meta.Size, 10) + "\x00"))
	}
}

func (p *part) hash(b []byte) {
	p.sum.Write(b)
	if p.git != nil {
		p.git.Write(b)
	}
	p.size += int64(len(b))
}

// restart empties the file and says what the next bytes will be. The emptiness
// is on the disk before the new tag, so that no crash mixes two contents.
func (p *part) restart(tag string) error {
	if err := p.f.Truncate(0); err != nil {
		return err
	}
	if _, err := p.f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if err := p.f.Sync(); err != nil {
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
	if !p.meta.identified() && p.size-p.meta.Synced >= syncEvery {
		if err := p.f.Sync(); err != nil {
			return n, err
		}
		p.meta.Synced = p.size
		return n, p.writeMeta()
	}
	return n, nil
}

// digest returns the SHA-256 of the whole file, or that it is not the one asked for.
func (p *part) digest() (string, error) {
	got := hex.EncodeToString(p.sum.Sum(nil))
	if p.meta.SHA256 != "" && got != p.meta.SHA256 || p.git != nil && hex.EncodeToString(p.git.Sum(nil)) != p.meta.GitSHA1 {
		return "", &Error{Code: DigestMismatch, Hint: "the content is not the one that was promised"}
	}
	return got, nil
}

// keep leaves the bytes for the next run.
func (p *part) keep() error {
	var err error
	if !p.meta.identified() && p.size > p.meta.Synced {
		if err = p.f.Sync(); err == nil {
			p.meta.Synced = p.size
			err = p.writeMeta()
		}
	}
	return errors.Join(err, p.f.Close())
}

// remove removes file and description.
func (p *part) remove() error {
	return errors.Join(removePart(p.into, p.name), p.f.Close())
}

func removePart(into *os.Root, name string) error {
	var errs []error
	for _, suffix := range []string{partSuffix, metaSuffix, ".new"} {
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

// removeOthers removes the partials of other revisions of a file.
func removeOthers(into *os.Root, name string) error {
	dir, err := into.Open(".")
	if err != nil {
		return err
	}
	names, err := dir.Readdirnames(4 * maxFiles)
	_ = dir.Close() // read only: nothing can be lost
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	for _, other := range names {
		stem, isPart := strings.CutSuffix(other, partSuffix)
		if !isPart || len(stem) != len(name) || stem == name || stem[:32] != name[:32] {
			continue
		}
		if err := removePart(into, stem); err != nil {
			return err
		}
	}
	return nil
}
