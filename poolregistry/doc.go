// Package poolregistry: see README.md.
package poolregistry
