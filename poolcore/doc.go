// Package poolcore: see README.md.
package poolcore
