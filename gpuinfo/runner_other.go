//go:build !linux

package gpuinfo

import "context"

const supported = false

type runner struct{}

func newRunner() *runner { return &runner{} }

func (*runner) run(context.Context, string, []string, []string, int) runResult {
	return runResult{end: startFailed}
}
