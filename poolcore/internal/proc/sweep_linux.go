package proc

import (
	"bytes"
	"math"
	"os"
	"strconv"
	"syscall"
	"time"
)

const (
	sweepPause = 5 * time.Millisecond
	sweepSlow  = 100 * time.Millisecond
	sweepFast  = 5 * time.Second // how long it is looked for at the fast pace
	forEver    = time.Duration(math.MaxInt64)
)

// sweep looks again and again until it found nobody twice, or for within: a killed
// process takes a moment to go, and one that is between fork and exec shows no
// environment for a moment. Only the kernel can make it take long, by holding a
// process that was killed.
func sweep(within time.Duration, look func() (found bool)) {
	begin := time.Now()
	for empty := 0; ; {
		empty++
		if look() {
			empty = 0
		}
		pause := sweepPause
		switch took := time.Since(begin); {
		case empty == 2 || took >= within:
			return
		case took > sweepFast:
			pause = sweepSlow
		}
		time.Sleep(pause)
	}
}

// maxEnviron bounds what is read of an environment.
const maxEnviron = 256 << 10

// pids returns the processes of the machine except this one.
func pids() []int {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil
	}
	out := make([]int, 0, len(names))
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil && pid != os.Getpid() {
			out = append(out, pid)
		}
	}
	return out
}

// killMatching kills every process that mine recognises until nobody is left, and
// returns how many different ones there were.
func killMatching(within time.Duration, mine func(Stat) bool) int {
	seen := map[Stat]bool{}
	sweep(within, func() (found bool) {
		for _, pid := range pids() {
			if s, ok := killIf(pid, mine); ok {
				found = true
				s.State, s.Threads = 0, 0
				seen[s] = true
			}
		}
		return found
	})
	return len(seen)
}

// killIf kills a process that mine recognises, dying ones included. It is asked
// again when the process is held by a handle, so a reused id is never signalled.
func killIf(pid int, mine func(Stat) bool) (Stat, bool) {
	if s, err := readStat(pid); err != nil || s.Ended() || !mine(s) {
		return Stat{}, false
	}
	h, err := open(pid)
	if err != nil {
		return Stat{}, false
	}
	defer h.close()
	s, err := readStat(pid)
	if err != nil || s.Ended() || s.StartTicks != h.ticks || !mine(s) {
		return Stat{}, false
	}
	_ = h.signal(syscall.SIGKILL) // it may be gone by now
	return s, true
}

// carries reports whether a process has name=value in the environment that it was
// started with; zombies have none.
func carries(pid int, name, value string) bool {
	got, ok := variable(pid, name)
	return ok && got == value
}

func variable(pid int, name string) (string, bool) {
	env, err := readProc(pid, "environ", maxEnviron)
	if err != nil {
		return "", false
	}
	for entry := range bytes.SplitSeq(env, []byte{0}) {
		if v, ok := bytes.CutPrefix(entry, []byte(name+"=")); ok {
			return string(v), true
		}
	}
	return "", false
}

// Tagged reports whether a process lives that was started with the tag.
func Tagged(pid int, tag string) bool {
	_, ok := StartTicks(pid)
	return ok && carries(pid, TagEnv, tag)
}

// KillInstance ends every process that carries the instance, or one of the tags of
// lost, and whose tag keep does not want; it returns how many there were. It gives
// up after [Unreaped].
func KillInstance(instance string, lost map[string]bool, keep func(tag string) bool) int {
	return killMatching(Unreaped, func(s Stat) bool {
		tag, tagged := variable(s.PID, TagEnv)
		ours := tagged && lost[tag] || instance != "" && carries(s.PID, InstanceEnv, instance)
		return ours && !keep(tag)
	})
}
