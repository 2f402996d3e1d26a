package orchestrator

import "github.com/llorch/llorch/orchestrator/store"

// forgetPerson drops what is kept in memory of a person beside tasks: sessions.
func (o *Orchestrator) forgetPerson(ref store.SubjectRef) { o.dropSessions(ref) }
