// Package secrets: see README.md.
package secrets
