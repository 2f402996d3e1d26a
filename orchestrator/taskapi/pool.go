package taskapi

// Pool is a pool as an operator sees it.
type Pool struct {
	PoolID      string   `json:"pool_id"`
	NodeID      string   `json:"node_id"`
	Engine      string   `json:"engine,omitempty"`
	Ready       bool     `json:"ready"`
	Draining    bool     `json:"draining"`
	Reason      string   `json:"reason,omitempty"` // not ready: one word
	Models      []string `json:"models"`
	SlotsTotal  int      `json:"slots_total"`
	SlotsActive int      `json:"slots_active"` // reserved by this scheduler
	Quarantined int      `json:"workers_quarantined"`
}

// PoolList is the body of GET /v2/pools, by node and name.
type PoolList struct {
	Pools []Pool `json:"pools"`
}

// PoolCommand is the body of POST /v2/pools/{id}/…; all of it may be absent but
// the model of a reload.
type PoolCommand struct {
	Model      string `json:"model,omitempty"`       // of reload and purge
	DeadlineMS int64  `json:"deadline_ms,omitempty"` // of drain; 0 = 30 s
	Force      bool   `json:"force,omitempty"`
}

// DecodePoolCommand reads the body of a command such as drain.
func DecodePoolCommand(do string, body []byte) (c PoolCommand, err error) {
	m := readBody(body)
	if do == "reload" {
		m.require("model")
	}
	m.model("model", &c.Model)
	take(m, "deadline_ms", &c.DeadlineMS)
	between(m, "deadline_ms", c.DeadlineMS, 0, maxDeadlineMS)
	take(m, "force", &c.Force)
	return c, m.done()
}

// Operation is a command that takes a while: the body of 202, and of GET
// /v2/operations/{id}, where it is polled.
type Operation struct {
	OperationID string `json:"operation_id"`
	PoolID      string `json:"pool_id,omitempty"`
	NodeID      string `json:"node_id,omitempty"`
	Command     string `json:"command"`
	State       string `json:"state"` // queued, running, done, failed, cancelled
	Phase       string `json:"phase,omitempty"`
	BytesDone   int64  `json:"bytes_done,omitempty"`
	BytesTotal  int64  `json:"bytes_total,omitempty"` // absent: unknown
	Code        string `json:"code,omitempty"`        // of a failed one
	Result      any    `json:"result,omitempty"`
}

// Queue is the body of GET /v2/queue.
type Queue struct {
	Capacity int            `json:"capacity"` // -1 = unbounded
	Waiting  int            `json:"waiting"`
	Bytes    int64          `json:"bytes"`
	OldestMS int64          `json:"oldest_ms"` // age of the oldest waiting task
	Classes  map[string]int `json:"classes"`   // waiting tasks
}

// Tenant is how one tenant stands.
type Tenant struct {
	Tenant      string `json:"tenant,omitempty"` // absent: not known since the restart
	Weight      int    `json:"weight"`
	Waiting     int    `json:"waiting"`
	Running     int    `json:"running"`
	VirtualTime int64  `json:"virtual_time"` // milli-tokens ÷ weight
	TokensToday int64  `json:"tokens_today"` // of this UTC day
}

// TenantList is the body of GET /v2/tenants.
type TenantList struct {
	Tenants []Tenant `json:"tenants"`
}

// DecisionList is the body of GET /v2/decisions, newest first; each as of GET
// /v2/tasks/{id}/explain.
type DecisionList struct {
	Decisions []any `json:"decisions"`
}
