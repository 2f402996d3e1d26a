// Package decisionlog records every decision of the scheduler, plays a record back
// and compares it with what another policy would have decided.
package decisionlog

// Writer writes segments. Made by NewWriter.
type Writer struct{}
