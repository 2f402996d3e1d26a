package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"

	"github.com/llorch/llorch/audit/internal/logfile"
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
	Bytes     int64   `json:"bytes"` // synced
	Closed    string  `json:"closed,omitzero"`
	FirstAt   string  `json:"first_at"`
	FirstPrev hexHash `json:"first_prev"`
	FirstSeq  uint64  `json:"first_seq"`
	LastAt    string  `json:"last_at"`
	LastHash  hexHash `json:"last_hash"`
	LastSeq   uint64  `json:"last_seq"`
	Name      string  `json:"name"`
	SHA256    string  `json:"sha256,omitzero"` // of Bytes bytes, once closed
	State     string  `json:"state"`
}

var errManifest = errors.New("audit: manifest.json is malformed")

// parseManifest reads and checks a manifest, so that users need not.
func parseManifest(b []byte) (*manifest, error) {
	var m manifest
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	err := d.Decode(&m)
	if _, end := d.Token(); err != nil || !errors.Is(end, io.EOF) || m.V != formatVersion || !originText.MatchString(m.Origin) {
		return nil, errManifest
	}
	var last logfile.Name
	next := m.MinIndex
	for i := range m.Files {
		f := &m.Files[i]
		n, err := logfile.ParseName(f.Name)
		_, err1 := parseTime(f.LastAt)
		wrong := errors.Join(err, err1) != nil || n.Compare(last) <= 0 || f.Bytes <= 0 ||
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

// known returns the entry of a file, or nil; m may be nil.
func (m *manifest) known(name string) *manifestFile {
	if m == nil {
		return nil
	}
	if i := slices.IndexFunc(m.Files, func(f manifestFile) bool { return f.Name == name }); i >= 0 {
		return &m.Files[i]
	}
	return nil
}

// put describes the synced part of an open file.
func (m *manifest) put(s *segment) {
	f := manifestFile{
		Bytes: s.goodSize, FirstAt: formatTime(s.firstAt), FirstPrev: s.firstPrev, FirstSeq: s.firstSeq,
		LastAt: formatTime(s.good.at), LastHash: s.good.prev, LastSeq: s.good.seq - 1, Name: s.name.String(), State: stateOpen,
	}
	if known := m.known(f.Name); known != nil {
		*known = f
	} else {
		m.Files = append(m.Files, f)
	}
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

// loadManifest returns an empty one without Created if there is none, or only
// a malformed one.
func loadManifest(open opener) (*manifest, error) {
	none := &manifest{V: formatVersion, Files: []manifestFile{}}
	b, err := open.small(manifestName, 0, maxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return none, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	if m, err := parseManifest(b); err == nil {
		return m, nil
	}
	return none, nil
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
	temp := tempPrefix + path.Base(name)
	if err := removeFile(fsys, temp); err != nil {
		return err
	}
	f, err := fsys.Create(temp)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(data, 0); err == nil {
		err = errors.Join(f.Chmod(mode), f.Sync())
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, fsys.Remove(temp))
	}
	if err := fsys.Rename(temp, name); err != nil {
		return err
	}
	return fsys.SyncDir(path.Dir(name))
}
