package gpuinfo

import "time"

// runResult is what a child printed and how it ended.
type runResult struct {
	stdout, stderr []byte
	code           int
	errno          int // why it could not be started; 0: not known
	end            runEnd
	age            time.Duration // of the hung child
}

type runEnd int

const (
	ended runEnd = iota
	startFailed
	timedOut
	tooMuch
	hung
)
