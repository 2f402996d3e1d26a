package proc

import (
	"bytes"
	"errors"
	"strconv"
)

// Stat is what this package needs of /proc/PID/stat.
type Stat struct {
	PID, Parent, Group int
	State              byte // 'Z' and 'X': ended
	Threads            int
	StartTicks         uint64 // since boot
}

var errStat = errors.New("proc: malformed stat")

// maxStat bounds what is read of one file of /proc.
const maxStat = 4 << 10

// ParseStat reads the text of /proc/PID/stat. The name of a program may hold
// blanks, brackets and line feeds, so everything is counted from the last ')'.
func ParseStat(b []byte) (Stat, error) {
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if len(b) > maxStat || open < 2 || end < open {
		return Stat{}, errStat
	}
	pid, err := strconv.Atoi(string(b[:open-1]))
	if err != nil || pid < 1 || b[open-1] != ' ' {
		return Stat{}, errStat
	}
	f := bytes.Fields(b[end+1:])
	const state, parent, group, threads, start = 0, 1, 2, 17, 19 // fields 3, 4, 5, 20 and 22
	if len(f) <= start || len(f[state]) != 1 {
		return Stat{}, errStat
	}
	s := Stat{PID: pid, State: f[state][0]}
	for _, n := range []struct {
		to *int
		at int
	}{{&s.Parent, parent}, {&s.Group, group}, {&s.Threads, threads}} {
		if *n.to, err = strconv.Atoi(string(f[n.at])); err != nil {
			return Stat{}, errStat
		}
	}
	if s.StartTicks, err = strconv.ParseUint(string(f[start]), 10, 64); err != nil {
		return Stat{}, errStat
	}
	return s, nil
}

// Ended reports whether the whole process has exited; it may wait to be reaped. A
// leader that ended before its other threads still counts as alive.
func (s Stat) Ended() bool {
	return (s.State == 'Z' || s.State == 'X') && s.Threads <= 1
}
