// Package authmin: see README.md.
package authmin
