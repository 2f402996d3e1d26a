package audit

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/llorch/llorch/audit/internal/vfs"
)

const (
	manifestName = "manifest.json"
	maxManifest  = 16 << 20 // 50,000 files
	tempPrefix   = ".tmp-"
)

// States of a file in the manifest.
const (
	stateOpen   = "open"
	stateClosed = "closed"
)

// manifest is the index of the files, and the newest head that was written
// down: the entry of the open file says how far it was synced. It is not
// signed.
type manifest struct {
	Created  string         `json:"created"`
	Files    []manifestFile `json:"files"`
	MinIndex uint64         `json:"min_index"` // seq of the oldest record kept
	Origin   string         `json:"origin"`
	Service  string         `json:"service"`
	V        int            `json:"v"`
}

type manifestFile struct {
	Bytes     int64  `json:"bytes"` // synced
	Closed    string `json:"closed,omitzero"`
	FirstAt   string `json:"first_at"`
	FirstPrev string `json:"first_prev"`
	FirstSeq  uint64 `json:"first_seq"`
	LastAt    string `json:"last_at"`
	LastHash  string `json:"last_hash"`
	LastSeq   uint64 `json:"last_seq"`
	Name      string `json:"name"`
	SHA256    string `json:"sha256,omitzero"` // of Bytes bytes, once closed
	State     string `json:"state"`
}

var errManifest = errors.New("audit: manifest.json is malformed")

// parseManifest reads and checks a manifest, so that users need not.
func parseManifest(b []byte) (*manifest, error) {
	var m manifest
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil || d.More() || m.V != formatVersion || !originText.MatchString(m.Origin) {
		return nil, errManifest
	}
	var last fileName
	next := m.MinIndex
	for i := range m.Files {
		f := &m.Files[i]
		n, err := parseFileName(f.Name)
		_, err1 := parseHash(f.LastHash)
		_, err2 := parseHash(f.FirstPrev)
		_, err3 := parseTime(f.LastAt)
		wrong := errors.Join(err, err1, err2, err3) != nil || n.compare(last) <= 0 || f.Bytes <= 0 ||
			f.FirstSeq != next || f.LastSeq < f.FirstSeq || f.LastSeq == 1<<64-1 ||
			f.State != stateClosed && (f.State != stateOpen || i != len(m.Files)-1) ||
			f.SHA256 != "" && !isHex(f.SHA256, 64)
		if wrong {
			return nil, errManifest
		}
		last, next = n, f.LastSeq+1
	}
	return &m, nil
}

// head returns the entry of the newest file, or nil.
func (m *manifest) head() *manifestFile {
	if m == nil || len(m.Files) == 0 {
		return nil
	}
	return &m.Files[len(m.Files)-1]
}

// put replaces the entry of a file or adds it.
func (m *manifest) put(f manifestFile) {
	for i := range m.Files {
		if m.Files[i].Name == f.Name {
			m.Files[i] = f
			return
		}
	}
	m.Files = append(m.Files, f)
}

func (m *manifest) save(fsys vfs.FS) error {
	b, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode manifest: %w", err)
	}
	if err := replaceFile(fsys, manifestName, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	return nil
}

// loadManifest returns nil without an error when there is none.
func loadManifest(fsys vfs.FS) (*manifest, error) {
	b, err := readFile(fsys, manifestName, maxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	return parseManifest(b)
}

// newManifest starts one for a new directory, or for one that lost it.
func newManifest(c *Config, origin string) (*manifest, error) {
	m := &manifest{Created: formatTime(time.Now()), Origin: c.Origin, Service: c.Service, V: formatVersion, Files: []manifestFile{}}
	if m.Origin == "" {
		m.Origin = origin
	}
	if m.Origin == "" {
		id, err := newID(time.Now())
		if err != nil {
			return nil, err
		}
		m.Origin = hostname() + "/" + c.Service + "/" + id[len(id)-8:]
	}
	return m, nil
}

// hostname never fails: a log without a host's name is better than none.
func hostname() string {
	h, err := os.Hostname()
	if err != nil || h == "" || len(h) > 128 || !originText.MatchString(h) {
		return "localhost"
	}
	return h
}

// replaceFile writes a small file so that a crash leaves the old or the new.
func replaceFile(fsys vfs.FS, name string, data []byte, mode fs.FileMode) error {
	temp := tempPrefix + name
	if err := fsys.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := fsys.Create(temp)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, 0)
	if err == nil && mode != 0o600 {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, fsys.Remove(temp))
	}
	if err := fsys.Rename(temp, name); err != nil {
		return err
	}
	return fsys.SyncDir(".")
}

func readFile(fsys vfs.FS, name string, limit int64) ([]byte, error) {
	f, err := fsys.Open(name, false)
	if err != nil {
		return nil, err
	}
	size, err := f.Size()
	if err == nil && size > limit {
		err = errors.New("file is too large")
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	b := make([]byte, size)
	n, err := f.ReadAt(b, 0)
	if int64(n) == size {
		err = nil
	}
	return b, errors.Join(err, f.Close())
}

// entryOf describes a segment as the manifest keeps it.
func entryOf(s *segment) manifestFile {
	first, last := s.firstPrev, s.good.prev
	return manifestFile{
		Bytes: s.goodSize, FirstAt: formatTime(s.firstAt), FirstPrev: hex.EncodeToString(first[:]), FirstSeq: s.firstSeq,
		LastAt: formatTime(s.good.at), LastHash: hex.EncodeToString(last[:]), LastSeq: s.good.seq - 1,
		Name: s.name.String(), State: stateOpen,
	}
}
