package poolcore

import (
	"bytes"
	"os"
	"strconv"
	"time"
)

// workerEnv marks every process of a worker, also one that left its group.
const workerEnv = "LLORCH_WORKER_ID"

// A killed process takes a moment to go, and one that is between fork and exec
// shows no environment for a moment: the search ends when it twice found nobody,
// or after sweepFor, when only the kernel can still hold somebody.
const (
	sweepPause = 5 * time.Millisecond
	sweepFor   = 5 * time.Second
)

// killTagged ends every process of this user that carries the worker's mark and
// waits until they are gone.
func killTagged(worker string) {
	begin := time.Now()
	for empty := 0; empty < 2 && time.Since(begin) < sweepFor; {
		if empty++; sweepTagged(worker) {
			empty = 0
		}
		time.Sleep(sweepPause)
	}
}

// sweepTagged kills and reports whether there was one, dying ones included. The mark is read again after the
// process is held by a handle, so a reused id is never signalled.
func sweepTagged(worker string) bool {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return false
	}
	found := false
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() || !tagged(pid, worker) {
			continue
		}
		p, err := os.FindProcess(pid) // a pidfd on Linux
		if err != nil {
			continue
		}
		if tagged(pid, worker) {
			_ = p.Kill() // it may be gone by now
			found = true
		}
		_ = p.Release()
	}
	return found
}

// tagged reports whether a process carries the mark; zombies have no environment.
func tagged(pid int, worker string) bool {
	env, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return false
	}
	return bytes.Contains(append([]byte{0}, env...), []byte("\x00"+workerEnv+"="+worker+"\x00"))
}
