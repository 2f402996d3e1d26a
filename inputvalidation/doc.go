// Package inputvalidation: see README.md.
package inputvalidation
