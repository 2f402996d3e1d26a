// Package narration: see README.md.
package narration
