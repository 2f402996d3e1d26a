package poolcore_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/llorch/llorch/poolcore"
	"github.com/llorch/llorch/poolcore/engine"
)

// stubWord makes the test binary an engine: stubWord [fault…] llama-server flags.
const stubWord = "engine-stub"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == stubWord {
		os.Exit(stub(os.Args[2:]))
	}
	if len(os.Args) > 2 && os.Args[1] == "owner" {
		os.Exit(owner(os.Args[2], os.Args[3:]))
	}
	if len(os.Args) > 1 && os.Args[1] == "sleeper" {
		signal.Ignore(syscall.SIGTERM, syscall.SIGHUP)
		select {}
	}
	if len(os.Args) > 2 && os.Args[1] == "script" {
		os.Exit(script(os.Args[2]))
	}
	os.Exit(m.Run())
}

// owner is a program that runs one pool until it is killed. It prints a line once
// the pool is ready.
func owner(dir string, faults []string) int {
	self, err := os.Executable()
	if err != nil {
		return 1
	}
	kind := "simulator"
	if len(faults) > 0 && faults[0] == "loose" {
		kind = "loose"
	}
	h, err := poolcore.New(poolcore.Config{
		NodeID: "owner", StateDir: dir, Ports: portsOf(0), Binaries: map[string]string{"simulator": self, "loose": self}, Timing: fastTiming(),
		Engines: []engine.Kind{engine.Simulator{Args: append([]string{stubWord}, faults...)}, newLoose(faults...)},
	})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	go func() {
		op, err := h.Preload(ctx, poolcore.PoolConfig{ID: "owned", Engine: kind, Model: "m"})
		if err == nil {
			err = op.Wait(ctx)
		}
		fmt.Println("ready", err)
	}()
	if err := h.Run(ctx); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func atoi(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

// stubFlags are what the stub understands of its command line.
type stubFlags struct {
	host, port, alias, keyFile, slots, ctx string
	faults                                 map[string]string
	now                                    *sudden
}

func parseStub(args []string) stubFlags {
	f := stubFlags{faults: map[string]string{}, now: &sudden{}}
	for i := 0; i < len(args); i++ {
		next := func() string { i++; return args[i] }
		switch a := args[i]; a {
		case "--host":
			f.host = next()
		case "--port":
			f.port = next()
		case "--alias":
			f.alias = next()
		case "--api-key-file":
			f.keyFile = next()
		case "-np":
			f.slots = next()
		case "-c":
			f.ctx = next()
		case "-m", "-ngl", "--seed":
			next()
		default:
			name, value, _ := strings.Cut(a, ":")
			f.faults[name] = value
		}
	}
	return f
}

// stub is an engine with process faults only: it answers /health, /v1/models and
// /props, and never generates anything.
func stub(args []string) int {
	f := parseStub(args)
	has := func(name string) bool { _, ok := f.faults[name]; return ok }
	fmt.Println("stub", f.alias, "starts")
	told := f.listen()
	if say, ok := f.faults["say"]; ok {
		fmt.Println(say)
	}
	if bad, ok := f.faults["bad-ctx"]; ok && bad == f.ctx {
		fmt.Println("error: invalid argument")
		return 2
	}
	if claim, ok := f.faults["load"]; ok && !loadVRAM(claim) {
		fmt.Println("ggml_cuda: cudaMalloc failed: out of memory")
		return 1
	}
	for range atoi(f.faults["flood"]) {
		fmt.Println(strings.Repeat("flood ", 100))
	}
	if after, ok := f.faults["die"]; ok { // a signal after some time
		sig, wait, _ := strings.Cut(after, "@")
		d, _ := time.ParseDuration(wait)
		time.AfterFunc(d, func() { // a program that leaves all signals as they are
			_ = syscall.Exec("/bin/sh", []string{"sh", "-c", "kill -" + sig + " $$"}, os.Environ())
		})
	}
	if code, ok := f.faults["exit"]; ok {
		n, _ := strconv.Atoi(code)
		return n
	}
	if has("ignore-term") {
		signal.Ignore(syscall.SIGTERM)
	}
	for _, kind := range []string{"grandchild", "grandchild-setsid"} {
		if !has(kind) {
			continue
		}
		cmd := exec.Command(os.Args[0], "sleeper")
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: kind == "grandchild-setsid"}
		if err := cmd.Start(); err != nil {
			fmt.Println(err)
			return 1
		}
	}
	if has("--exit-with-stdin") {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			os.Exit(0)
		}()
	}
	if has("mute") {
		select {}
	}
	if file, ok := f.faults["dump"]; ok {
		wd, _ := os.Getwd()
		mask := syscall.Umask(0)
		b, _ := json.Marshal(map[string]any{"args": os.Args, "env": os.Environ(), "wd": wd, "umask": mask, "pgid": syscall.Getpgrp() == os.Getpid()})
		if err := os.WriteFile(file, b, 0o600); err != nil {
			return 1
		}
	}
	if late, ok := f.faults["start-late"]; ok { // it binds only after a while, the first time
		marker := filepath.Join(filepath.Dir(f.keyFile), "..", "..", "..", "late")
		if file, err := os.OpenFile(marker, os.O_CREATE|os.O_EXCL, 0o600); err == nil {
			_ = file.Close()
			d, _ := time.ParseDuration(late)
			<-time.After(d)
		}
	}
	ln, err := net.Listen("tcp", net.JoinHostPort(f.host, f.port))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	go func() {
		for name := range told {
			f.act(name, ln)
		}
	}()
	code := f.serve(ln, has)
	if f.now.portless.Load() {
		select {}
	}
	return code
}

func (f stubFlags) serve(ln net.Listener, has func(string) bool) int {
	key, err := os.ReadFile(f.keyFile)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	start := time.Now()
	delay, _ := time.ParseDuration(f.faults["start-delay"])
	err = http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		alias := f.alias
		if has("wrong-alias") || f.now.alias.Load() {
			alias = "somebody-else"
		}
		if f.now.hang.Load() {
			select {}
		}
		switch {
		case r.URL.Path == "/health" && (has("loading") || time.Since(start) < delay):
			w.WriteHeader(http.StatusServiceUnavailable)
		case r.URL.Path == "/health":
			_, _ = io.WriteString(w, `{"status":"ok"}`)
		case r.Header.Get("Authorization") != "Bearer "+strings.TrimSpace(string(key)):
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path == "/v1/models":
			fmt.Fprintf(w, `{"data":[{"id":%q}]}`, alias)
		case r.URL.Path == "/props":
			fmt.Fprintf(w, `{"total_slots":%s,"build_info":%q}`, f.slots, f.faults["version"])
		case r.URL.Path == "/v1/completions" && has("generate"):
			_, _ = io.WriteString(w, `{"choices":[{"text":"!"}]}`)
		default:
			http.NotFound(w, r)
		}
	}))
	fmt.Println(err)
	return 1
}
