package orchestrator

import (
	"time"

	"github.com/llorch/llorch/audit"
	"github.com/llorch/llorch/audit/events"
)

// The payloads that this module declares itself. Members stand in the order of
// their JSON names, as in audit/events.
type (
	decisionsSealed struct {
		File   string        `json:"file"`
		SHA256 events.Digest `json:"sha256"`
	}
	recordsPurged struct {
		Artifacts uint64 `json:"artifacts"`
		Outputs   uint64 `json:"outputs"`
		Records   uint64 `json:"records"`
	}
	tasksRecovered struct {
		Ended  uint64 `json:"ended"`
		Queued uint64 `json:"queued"`
	}
	authzDenied struct {
		Action string `json:"action"`
	}
	rateLimitExceeded struct {
		Actual        uint32 `json:"actual"`
		Endpoint      string `json:"endpoint"`
		Limit         uint32 `json:"limit"`
		WindowSeconds uint32 `json:"window_seconds"`
	}
	policyViolation struct {
		ActionTaken string `json:"action_taken"`
		Details     string `json:"details,omitzero"`
		Policy      string `json:"policy"`
		Severity    string `json:"severity"`
		Violation   string `json:"violation"`
		WorkerID    string `json:"worker_id,omitzero"`
	}
	inferenceExecuted struct {
		CustomerID      string `json:"customer_id"`
		JobID           string `json:"job_id"`
		ModelRef        string `json:"model_ref"`
		ProviderID      string `json:"provider_id,omitzero"`
		TokensProcessed uint32 `json:"tokens_processed"`
	}
	modelAccessed struct {
		AccessType string `json:"access_type"`
		CustomerID string `json:"customer_id"`
		ModelRef   string `json:"model_ref"`
		ProviderID string `json:"provider_id,omitzero"`
	}
	dataDeleted struct {
		CustomerID string   `json:"customer_id"`
		DataTypes  []string `json:"data_types"`
	}
	accessRequest struct {
		CustomerID string   `json:"customer_id"`
		Requester  string   `json:"requester"`
		Scope      []string `json:"scope"`
	}
	dataExport struct {
		CustomerID   string        `json:"customer_id"`
		DataTypes    []string      `json:"data_types"`
		ExportFormat string        `json:"export_format"`
		FileSHA256   events.Digest `json:"file_sha256"`
	}
	rightToErasure struct {
		CompletedAt      time.Time `json:"completed_at"`
		CustomerID       string    `json:"customer_id"` // key:<id of the destroyed key>
		DataTypesDeleted []string  `json:"data_types_deleted"`
	}
	consentGranted struct {
		CustomerID    string    `json:"customer_id"`
		ExpiresAt     time.Time `json:"expires_at,omitzero"`
		PolicyVersion string    `json:"policy_version"`
		Purpose       string    `json:"purpose"`
		Scope         []string  `json:"scope"`
	}
	consentRevoked struct {
		CustomerID string `json:"customer_id"`
		Purpose    string `json:"purpose"`
	}
)

// DecisionsSealed is the event of a segment of the decision log that is whole and
// on disk, for [decisionlog.Config]: file is its name, sum 64 hex digits.
//
// [decisionlog.Config]: https://pkg.go.dev/github.com/llorch/llorch/orchestrator/decisionlog#Config
func DecisionsSealed(file, sum string) audit.Event {
	var d events.Digest
	_ = d.UnmarshalText([]byte(sum)) // a digest that is none is refused by the log
	return audit.Event{Type: "orchestrator.decisions_sealed", Actor: audit.System(), Data: decisionsSealed{File: file, SHA256: d}}
}

// AuditTypes returns the types that this module records beside those of
// events.Types: pass both to audit.Config. The slice belongs to the caller.
func AuditTypes() []audit.TypeInfo {
	its := func(members ...string) map[string]string {
		out := map[string]string{"customer_id": "customer_id"}
		for _, m := range members {
			out[m] = m
		}
		return out
	}
	return []audit.TypeInfo{
		{Name: "orchestrator.decisions_sealed", Data: decisionsSealed{}},
		{Name: "orchestrator.records_purged", Data: recordsPurged{}},
		{Name: "orchestrator.tasks_recovered", Data: tasksRecovered{}},
		{Name: "authz.denied", Class: audit.Critical, Data: authzDenied{}, Actor: true, Resource: true, Reason: true},
		{Name: "security.rate_limit_exceeded", Data: rateLimitExceeded{}},
		{Name: "security.policy_violation", Class: audit.Critical, Data: policyViolation{}},
		{Name: "data.inference_executed", Data: inferenceExecuted{}, Personal: its()},
		{Name: "data.model_accessed", Data: modelAccessed{}, Personal: its()},
		{Name: "data.deleted", Class: audit.Critical, Data: dataDeleted{}, Reason: true, Personal: its()},
		{Name: "compliance.gdpr_data_access_request", Class: audit.Critical, Data: accessRequest{}, Personal: its("requester")},
		{Name: "compliance.gdpr_data_export", Class: audit.Critical, Data: dataExport{}, Personal: its()},
		{Name: "compliance.gdpr_right_to_erasure", Class: audit.Critical, Data: rightToErasure{}, Personal: its()},
		{Name: "compliance.consent_granted", Class: audit.Critical, Data: consentGranted{}, Personal: its()},
		{Name: "compliance.consent_revoked", Class: audit.Critical, Data: consentRevoked{}, Reason: true, Personal: its()},
	}
}
