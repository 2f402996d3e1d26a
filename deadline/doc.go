// Package deadline: see README.md.
package deadline
