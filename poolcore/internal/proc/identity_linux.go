package proc

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// Supported reports why processes cannot be run here.
func Supported() error { return nil }

// bootID is different after every start of the machine.
func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// identify reads who has a pid now. A process that has exited has no program any
// more; its ExeDev and ExeIno are 0.
func identify(pid int) (Identity, error) {
	boot, err := bootID()
	if err != nil {
		return Identity{}, err
	}
	s, err := readStat(pid)
	if err != nil {
		return Identity{}, err
	}
	id := Identity{PID: pid, StartTicks: s.StartTicks, BootID: boot}
	info, err := os.Stat("/proc/" + strconv.Itoa(pid) + "/exe")
	if err != nil {
		return id, nil
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		id.ExeDev, id.ExeIno = uint64(st.Dev), st.Ino
	}
	return id, nil
}

// matches reports whether both describe one process. What is not known matches
// nothing.
func (i Identity) matches(j Identity) bool {
	return i == j && i.PID > 1 && i.StartTicks > 0 && i.BootID != "" && i.ExeIno > 0
}
