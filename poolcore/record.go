package poolcore

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/poolcore/internal/proc"
	"github.com/llorch/llorch/poolregistry"
)

// States of a record. In intent there may be a process that nobody noted.
const (
	stateIntent   = "intent"
	stateRunning  = "running"
	stateStopping = "stopping"
)

// Names below StateDir, and how large a file there may be.
const (
	reloadDir     = "reload"
	instanceFile  = "instance"
	fitFile       = "fit.json"
	maxStateFile  = 4 << 20
	maxRecords    = maxPools * maxReplicas * 2
	recordSchema  = 1
	recordSuffix  = ".json"
	privateFolder = 0o700
	privateFile   = 0o600
)

// record is what the next run of the program needs to find a worker again. It
// holds the worker's key, so it is readable by its owner only.
type record struct {
	Schema       int                   `json:"schema"`
	WorkerID     poolregistry.WorkerID `json:"worker_id"`
	Pool         string                `json:"pool_id"`
	Replica      int                   `json:"replica"`
	Config       PoolConfig            `json:"config"`
	ConfigSHA256 string                `json:"config_sha256"`
	Process      proc.Identity         `json:"process"`
	Port         uint16                `json:"port"`
	Log          string                `json:"log"`
	Token        string                `json:"token"`
	State        string                `json:"state"`
	Reload       string                `json:"reload,omitzero"` // the journal that it may belong to
	Tied         bool                  `json:"tied,omitzero"`   // ends with its owner
	Devices      string                `json:"devices,omitzero"`
	Model        string                `json:"model,omitzero"` // id in the catalogue
	NeedBytes    uint64                `json:"need_bytes,omitzero"`
	Began        time.Time             `json:"began"`
}

func (c *hostCrew) record(w *worker, state string) record {
	r := record{
		Schema: recordSchema, WorkerID: w.id, Pool: w.cfg.ID, Replica: w.at, Config: w.cfg, ConfigSHA256: configDigest(w.cfg), Port: w.port,
		Log: workersDir + "/" + string(w.id) + "/engine.log", Token: w.token, State: state, Tied: w.tied, Devices: w.plan.mask.String(),
		Model: w.plan.model.ID, NeedBytes: w.plan.need.Bytes, Began: w.began, Reload: reloadDir + "/" + w.cfg.ID + recordSuffix,
	}
	if w.proc != nil {
		// A process that has ended already gets a record that matches nothing.
		r.Process, _ = w.proc.Identity()
	}
	if w.plan.cpu {
		r.Devices = "cpu" // whatever devices there are when it is read
	}
	return r
}

func configDigest(pc PoolConfig) string {
	b, err := json.Marshal(pc)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// parseRecord reads what writeRecord wrote. What does not agree with itself is
// damaged.
func parseRecord(b []byte) (record, error) {
	var r record
	if err := json.Unmarshal(b, &r); err != nil {
		return record{}, errors.New("worker record: malformed")
	}
	_, err := poolregistry.ParseWorkerID(string(r.WorkerID))
	if err != nil || r.Schema != recordSchema || r.Pool != r.Config.ID || r.Replica < 0 || r.Replica >= maxReplicas ||
		!strings.HasPrefix(string(r.WorkerID), fmt.Sprintf("%s-r%d-", r.Pool, r.Replica)) || r.ConfigSHA256 != configDigest(r.Config) {
		return record{}, errors.New("worker record: does not agree with itself")
	}
	return r, nil
}

// stateFiles is everything below StateDir. It is safe for concurrent use.
type stateFiles struct {
	root *os.Root
	tree *inputvalidation.Tree
}

func openState(dir string) (*stateFiles, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open state directory: %w", err)
	}
	tree, err := inputvalidation.OpenTree(dir, inputvalidation.TreeConfig{MaxEntries: 1 << 16})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open state directory: %w", err), root.Close())
	}
	return &stateFiles{root: root, tree: tree}, nil
}

func (s *stateFiles) close() error { return errors.Join(s.tree.Close(), s.root.Close()) }

// write replaces a file below StateDir durably and in one step.
func (s *stateFiles) write(name string, data []byte) error {
	p, err := inputvalidation.ParseRelPath("name", name)
	if err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	if dir := filepath.Dir(name); dir != "." {
		if err := s.root.MkdirAll(dir, privateFolder); err != nil {
			return fmt.Errorf("make state folder: %w", err)
		}
	}
	if err := s.tree.WriteFile(p, data, privateFile); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	return nil
}

func (s *stateFiles) read(name string) ([]byte, error) {
	p, err := inputvalidation.ParseRelPath("name", name)
	if err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	b, err := s.tree.ReadFile(p, maxStateFile)
	if err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	return b, nil
}

// remove removes a file; that there is none is no error.
func (s *stateFiles) remove(name string) error {
	if err := s.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove state: %w", err)
	}
	return nil
}

// names lists a folder below StateDir; one that is not there is empty.
func (s *stateFiles) names(dir string) ([]string, error) { return namesIn(s.root, dir) }

func namesIn(root *os.Root, dir string) ([]string, error) {
	f, err := root.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list state: %w", err)
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list state: %w", err)
	}
	return names, nil
}

// note makes the worker's record durable. A record does not come back once the
// worker's files were removed.
func (c *hostCrew) note(w *worker, state string) error {
	b, err := json.Marshal(c.record(w, state))
	if err != nil {
		return fmt.Errorf("write worker record: %w", err)
	}
	w.noting.Lock()
	defer w.noting.Unlock()
	if w.removed {
		return nil
	}
	return c.files.write(workersDir+"/"+string(w.id)+recordSuffix, b)
}

// erase removes record and directory of a worker for good.
func (c *hostCrew) erase(w *worker) error {
	w.noting.Lock()
	defer w.noting.Unlock()
	w.removed = true
	return c.files.removeWorker(w.id)
}

func (s *stateFiles) removeWorker(id poolregistry.WorkerID) error {
	err := s.remove(workersDir + "/" + string(id) + recordSuffix)
	return errors.Join(err, s.root.RemoveAll(workersDir+"/"+string(id)))
}
