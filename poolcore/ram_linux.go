package poolcore

import "syscall"

// ramTotal is the memory of the machine in bytes, 0 if unknown.
func ramTotal() uint64 {
	var info syscall.Sysinfo_t
	if err := syscall.Sysinfo(&info); err != nil {
		return 0
	}
	return uint64(info.Totalram) * uint64(info.Unit)
}
