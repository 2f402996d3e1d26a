package handoff

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/poolregistry"
)

// MaxBytes is the largest file that is read or written, in bytes.
const MaxBytes = 64 << 10

// Limits of a file's members.
const (
	schema     = 1
	maxText    = 128  // bytes of engine, engine_version, device_mask, …
	maxPath    = 4096 // bytes of a model's id or path
	maxSlots   = 4096
	maxFlags   = 64
	maxFlag    = 512 // bytes
	maxReplica = 63  // bytes
)

// File is one worker as its file tells it. The URL is not judged here: see
// [File.Bind].
type File struct {
	Schema           int                 `json:"schema"` // 1
	PoolID           poolregistry.PoolID `json:"pool_id"`
	ReplicaID        string              `json:"replica_id"` // spelled like a PoolID
	WorkerID         string              `json:"worker_id,omitempty"`
	Engine           string              `json:"engine"`
	EngineVersion    string              `json:"engine_version"`
	URL              string              `json:"url"`
	DeviceMask       string              `json:"device_mask,omitempty"`
	SlotsTotal       int                 `json:"slots_total"` // 1 to 4,096; 1 where the file says nothing
	SlotsFree        int                 `json:"slots_free"`  // 0 to SlotsTotal, which it is where the file says nothing
	PID              int                 `json:"pid,omitempty"`
	Model            Model               `json:"model,omitzero"`
	ProvisioningMode string              `json:"provisioning_mode,omitempty"`
	Flags            []string            `json:"flags,omitempty"`
	WrittenAt        time.Time           `json:"written_at,omitzero"`
}

// Model is what the worker serves.
type Model struct {
	ID     string `json:"id,omitempty"`
	Path   string `json:"path,omitempty"`
	Digest string `json:"digest,omitempty"`
}

// wire is what the three shapes and their mixtures may hold.
type wire struct {
	Schema           *int      `json:"schema"`
	PoolID           string    `json:"pool_id"`
	ReplicaID        string    `json:"replica_id"`
	WorkerID         string    `json:"worker_id"`
	Engine           string    `json:"engine"`
	EngineVersion    string    `json:"engine_version"`
	URL              string    `json:"url"`
	HTTPEndpoint     string    `json:"http_endpoint"`
	DeviceMask       string    `json:"device_mask"`
	Slots            *int      `json:"slots"`
	SlotsTotal       *int      `json:"slots_total"`
	SlotsFree        *int      `json:"slots_free"`
	PID              *int      `json:"pid"`
	Model            Model     `json:"model"`
	ProvisioningMode string    `json:"provisioning_mode"`
	Flags            []string  `json:"flags"`
	WrittenAt        time.Time `json:"written_at"`
}

// Parse reads a file of any of the three shapes; members that it does not know are
// ignored. An error matches [Unreadable] where data is no whole JSON object, and
// [Invalid] where a member is wrong.
func Parse(data []byte) (File, error) {
	if err := inputvalidation.CheckJSON("file", data, MaxBytes); err != nil {
		return File{}, &Error{Code: Unreadable, Rule: "not a whole JSON object of at most 64 KiB"}
	}
	var w wire
	if err := json.Unmarshal(data, &w); err != nil {
		field := ""
		if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			field = e.Field
		}
		return File{}, invalid(field, "wrong type")
	}
	f, err := w.file()
	if err == nil {
		err = f.check()
	}
	if err != nil {
		return File{}, err
	}
	return f, nil
}

// file brings the shapes to one. Two names for one thing must agree.
func (w wire) file() (File, error) {
	f := File{
		Schema: schema, PoolID: poolregistry.PoolID(w.PoolID), ReplicaID: w.ReplicaID, WorkerID: w.WorkerID, Engine: w.Engine,
		EngineVersion: w.EngineVersion, URL: w.URL, DeviceMask: w.DeviceMask, SlotsTotal: 1, Model: w.Model,
		ProvisioningMode: w.ProvisioningMode, Flags: w.Flags, WrittenAt: w.WrittenAt,
	}
	if w.Schema != nil && *w.Schema != schema {
		return File{}, invalid("schema", "not 1")
	}
	switch {
	case f.URL == "":
		f.URL = w.HTTPEndpoint
	case w.HTTPEndpoint != "" && w.HTTPEndpoint != f.URL:
		return File{}, invalid("http_endpoint", "not equal to url")
	}
	switch {
	case w.SlotsTotal != nil && w.Slots != nil && *w.SlotsTotal != *w.Slots:
		return File{}, invalid("slots", "not equal to slots_total")
	case w.SlotsTotal != nil:
		f.SlotsTotal = *w.SlotsTotal
	case w.Slots != nil:
		f.SlotsTotal = *w.Slots
	}
	f.SlotsFree = f.SlotsTotal
	if w.SlotsFree != nil {
		f.SlotsFree = *w.SlotsFree
	}
	if w.PID != nil {
		if f.PID = *w.PID; f.PID < 1 {
			return File{}, invalid("pid", "out of range")
		}
	}
	return f, nil
}

// check judges every member but the URL's destination.
func (f File) check() error {
	if _, err := poolregistry.ParsePoolID(string(f.PoolID)); err != nil {
		return invalid("pool_id", "malformed")
	}
	if inputvalidation.CheckIdentifier("replica_id", f.ReplicaID, inputvalidation.IdentRules{Max: maxReplica, Extra: "._-"}) != nil {
		return invalid("replica_id", "malformed")
	}
	if f.WorkerID != "" {
		if _, err := poolregistry.ParseWorkerID(f.WorkerID); err != nil {
			return invalid("worker_id", "malformed")
		}
	}
	if f.Engine == "" || f.URL == "" {
		field := map[bool]string{true: "engine", false: "url"}[f.Engine == ""]
		return invalid(field, "missing")
	}
	for _, t := range []struct {
		field, text string
		max         int
	}{
		{"engine", f.Engine, maxText},
		{"engine_version", f.EngineVersion, maxText},
		{"device_mask", f.DeviceMask, maxText * 8},
		{"provisioning_mode", f.ProvisioningMode, maxText},
		{"model.id", f.Model.ID, maxPath},
		{"model.path", f.Model.Path, maxPath},
		{"model.digest", f.Model.Digest, maxText},
	} {
		if len(t.text) > t.max || inputvalidation.Escape(t.text) != t.text {
			return invalid(t.field, "malformed")
		}
	}
	switch {
	case f.SlotsTotal < 1 || f.SlotsTotal > maxSlots:
		return invalid("slots_total", "out of range")
	case f.SlotsFree < 0 || f.SlotsFree > f.SlotsTotal:
		return invalid("slots_free", "out of range")
	case f.PID < 0 || f.PID > 1<<31-1:
		return invalid("pid", "out of range")
	}
	return checkFlags(f.Flags)
}

func checkFlags(flags []string) error {
	if len(flags) > maxFlags {
		return invalid("flags", "more than 64")
	}
	for i, flag := range flags {
		if len(flag) > maxFlag || strings.ContainsRune(flag, 0) {
			return invalid("flags["+strconv.Itoa(i)+"]", "malformed")
		}
	}
	return nil
}
