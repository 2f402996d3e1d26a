package enginesim

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/llorch/llorch/orchestrator/worker/workertest"
)

// hooks fill the faults that end a process (SIM-6). end stops the engine at once
// with an exit code.
func hooks(end func(code int), stderr io.Writer) workertest.Hooks {
	return workertest.Hooks{
		Exit: func(arg string) {
			code, sig, err := exitAs(arg)
			if err != nil {
				code = exitFailed // by header; a flag was checked
			}
			if sig != 0 {
				if self, err := os.FindProcess(os.Getpid()); err == nil && self.Signal(sig) == nil {
					return // the signal ends the process, now or as its handler says
				}
			}
			end(code)
		},
		OOM: func() {
			_, _ = fmt.Fprintln(stderr, "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 4096.00 MiB on device 0: cudaMalloc failed: out of memory")
			end(exitFailed)
		},
	}
}

// exitAs reads the argument of the fault "exit": a code or a signal's name.
func exitAs(arg string) (code int, sig syscall.Signal, err error) {
	if n, err := strconv.Atoi(arg); err == nil && n >= 0 && n <= 255 {
		return n, 0, nil
	}
	switch strings.TrimPrefix(arg, "SIG") {
	case "KILL":
		return exitFailed, syscall.SIGKILL, nil
	case "TERM":
		return exitFailed, syscall.SIGTERM, nil
	case "SEGV":
		return exitFailed, syscall.SIGSEGV, nil
	case "ABRT":
		return exitFailed, syscall.SIGABRT, nil
	}
	return 0, 0, errors.New("fault exit: neither a code from 0 to 255 nor one of KILL TERM SEGV ABRT")
}
