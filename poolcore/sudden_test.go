package poolcore_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
)

// sudden are the faults that a stub shows from a signal on.
type sudden struct{ hang, alias, portless atomic.Bool }

// listen returns the name of the fault in "later:NAME" at every SIGUSR1.
func (f stubFlags) listen() <-chan string {
	signals, names := make(chan os.Signal, 1), make(chan string)
	signal.Notify(signals, syscall.SIGUSR1)
	go func() {
		for range signals {
			names <- f.faults["later"]
		}
	}()
	return names
}

// act shows a fault now.
func (f stubFlags) act(name string, ln net.Listener) {
	name, arg, _ := strings.Cut(name, "=")
	switch name {
	case "exit":
		os.Exit(atoi(arg))
	case "die":
		_ = syscall.Exec("/bin/sh", []string{"sh", "-c", "kill -" + arg + " $$"}, os.Environ())
	case "say": // a last line
		fmt.Println(arg)
		os.Exit(1)
	case "flood":
		for range atoi(arg) {
			fmt.Println(strings.Repeat("flood ", 100))
		}
	case "hang":
		f.now.hang.Store(true)
	case "alias":
		f.now.alias.Store(true)
	case "deaf":
		signal.Ignore(syscall.SIGTERM)
	case "port": // it gives its port up and goes on
		f.now.portless.Store(true)
		_ = ln.Close()
	case "fork", "setsid":
		cmd := exec.Command(os.Args[0], "sleeper")
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: name == "setsid"}
		if err := cmd.Start(); err != nil {
			os.Exit(1)
		}
		f.act(arg, ln)
	case "leak": // its memory stays when it is gone
		own := filepath.Join(arg, fmt.Sprintf("pid-%d", os.Getpid()))
		if err := os.Rename(own, own+"-leak"); err != nil {
			os.Exit(1)
		}
		f.act("die=9", ln)
	}
}
