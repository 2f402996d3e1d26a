// Package gpuinfo: see README.md.
package gpuinfo
