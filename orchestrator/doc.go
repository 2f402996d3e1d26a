// Package orchestrator: see README.md.
package orchestrator
