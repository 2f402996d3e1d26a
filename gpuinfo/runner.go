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

// closedIn reports whether ch is closed now or within d.
func closedIn(ch <-chan struct{}, d time.Duration) bool {
	select {
	case <-ch:
		return true
	default:
	}
	select {
	case <-ch:
		return true
	case <-time.After(d):
		return false
	}
}
