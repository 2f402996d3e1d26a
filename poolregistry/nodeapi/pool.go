package nodeapi

import (
	"fmt"
	"log/slog"

	"github.com/llorch/llorch/poolregistry"
)

// PoolStatus is the answer to [RoutePoolStatus].
type PoolStatus = poolregistry.Pool

// PoolList is the answer to [RoutePools].
type PoolList struct {
	Pools []PoolStatus `json:"pools"` // sorted by pool_id
}

// WorkerList is the answer to [RoutePoolWorkers].
type WorkerList struct {
	Workers []WorkerAccess `json:"workers"` // sorted by worker_id
}

// WorkerAccess says how to reach a worker. It is the only type that carries a
// worker's token; the token is in its JSON and in no other rendering.
type WorkerAccess struct {
	WorkerID   poolregistry.WorkerID `json:"worker_id"`
	URL        string                `json:"url"`
	Token      string                `json:"token,omitzero"`
	ModelRef   string                `json:"model_ref"`
	SlotsTotal int                   `json:"slots_total"`
}

// Format writes the access without its token.
func (w WorkerAccess) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "worker{worker_id:%q url:%q model_ref:%q slots_total:%d}", string(w.WorkerID), w.URL, w.ModelRef, w.SlotsTotal)
}

// LogValue returns the access without its token.
func (w WorkerAccess) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(w)) }
