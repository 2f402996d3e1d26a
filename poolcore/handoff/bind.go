package handoff

import (
	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/poolregistry"
)

// Binding is an engine that somebody else runs, judged and ready to be used under
// a pool's and a replica's id.
type Binding struct {
	Pool          poolregistry.PoolID
	Replica       string
	Worker        string // empty where the file names none
	Engine        string
	EngineVersion string
	URL           string // scheme, host and port
	DeviceMask    string
	Model         Model
	SlotsTotal    int
	SlotsFree     int
	PID           int // 0: not told
}

// LoopbackOnly is the address policy of [Watch] where the caller states none.
func LoopbackOnly() poolregistry.AddressPolicy {
	return poolregistry.AddressPolicy{Allow: []inputvalidation.AddrKind{inputvalidation.AddrLoopback}}
}

// Bind judges f, where it leads included. A name is judged again by whoever dials
// it. The error is an [*Error].
func (f File) Bind(policy poolregistry.AddressPolicy) (Binding, error) {
	if err := f.check(); err != nil {
		return Binding{}, err
	}
	u, err := policy.Check(f.URL)
	if err != nil {
		return Binding{}, &Error{Code: AddressNotAllowed, Field: "url"}
	}
	return Binding{
		Pool: f.PoolID, Replica: f.ReplicaID, Worker: f.WorkerID, Engine: f.Engine, EngineVersion: f.EngineVersion, URL: u.String(),
		DeviceMask: f.DeviceMask, Model: f.Model, SlotsTotal: f.SlotsTotal, SlotsFree: f.SlotsFree, PID: f.PID,
	}, nil
}
