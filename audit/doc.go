// Package audit: see README.md.
package audit
