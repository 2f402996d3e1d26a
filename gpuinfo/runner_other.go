//go:build !linux

package gpuinfo

import (
	"context"
	"time"
)

const supported = false

type runner struct{}

func newRunner() *runner { return &runner{} }

type runResult struct {
	stdout, stderr []byte
	code           int
	end            runEnd
	age            time.Duration
}

type runEnd int

const (
	ended runEnd = iota
	startFailed
	timedOut
	tooMuch
	hung
)

func (*runner) run(context.Context, string, []string, []string, int) runResult {
	return runResult{end: startFailed}
}
