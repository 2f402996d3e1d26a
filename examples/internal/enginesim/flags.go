package enginesim

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/llorch/llorch/examples/internal/version"
	"github.com/llorch/llorch/orchestrator/worker"
	"github.com/llorch/llorch/orchestrator/worker/workertest"
	"github.com/llorch/llorch/secrets"
)

const usage = `enginesim - the simulated inference engine of llorch as a process

It speaks the OpenAI-compatible protocol as llama-server does. There is no
model in it: words come from a short list, by the seed. It prints its URL.

  --host ADDR          address to listen on (127.0.0.1; others need a key)
  --port N             port, 0 = any (0)
  --api-key-file FILE  accepted bearer keys, one per line
  --alias NAME         name of the model on the wire (the model's name)
  -m FILE              model file; only its name counts, it is not opened
  --model NAME         model name, wins over -m (sim-8b)
  -c N                 context in tokens, of all slots together (8192 per slot)
  -np N                slots (4)
  --seed N             determines the text, with model and request (0)
  --preset NAME        timing: fast slow cpu h200 zero (about a small GPU)
  --load-delay D       time until the model is loaded, such as 5s (0)
  --fault F            misbehave, kind[:arg][@when]; may be repeated
  --request-faults     let requests ask for faults by the header X-Sim-Fault
  --trace FILE         append every event as one line of JSON
  --exit-with-stdin    end as soon as standard input ends
  --drain D            longest wait for running requests at the end (30s)
  --flavour NAME       dialect: llamacpp vllm ollama generic (llamacpp)
  -ngl N, --metrics, --slots   accepted as llama-server does, no effect
  --version, --help

Faults: refuse reset truncate stall slow-start slow-headers trickle split
status:CODE retry-after:S bad-json bad-utf8 long-line stream-error no-done
after-done content-type endless ignore-cancel exit:CODE|SIGNAL oom
duplicate health-lies leak-vram wrong-model
When: token=N request=N after=5s p=0.01, several with commas.
Exit codes: 0 ok, 1 failed, 2 usage, 20 work cut after the drain time,
75 address or file unavailable, 77 refused by policy, 78 bad configuration.
`

// options are the flags.
type options struct {
	host, port, keyFile, alias, file, model, preset, trace, flavour string
	ctx, slots                                                      int
	seed                                                            int64
	loadDelay, drain                                                time.Duration
	faults                                                          []workertest.Fault
	requestFaults, withStdin                                        bool
}

// parse returns nil and an exit code if there is nothing to run.
func parse(args []string, stdout, stderr io.Writer) (*options, int) {
	var o options
	var showVersion bool
	var offload string
	fs := flag.NewFlagSet("enginesim", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&o.host, "host", "127.0.0.1", "")
	fs.StringVar(&o.port, "port", "0", "")
	fs.StringVar(&o.keyFile, "api-key-file", "", "")
	fs.StringVar(&o.alias, "alias", "", "")
	fs.StringVar(&o.file, "m", "", "")
	fs.StringVar(&o.model, "model", "", "")
	fs.IntVar(&o.ctx, "c", 0, "")
	fs.IntVar(&o.slots, "np", 4, "")
	fs.Int64Var(&o.seed, "seed", 0, "")
	fs.StringVar(&o.preset, "preset", "", "")
	fs.DurationVar(&o.loadDelay, "load-delay", 0, "")
	fs.Func("fault", "", func(s string) error {
		list, err := workertest.ParseFaults(s)
		o.faults = append(o.faults, list...)
		return err
	})
	fs.BoolVar(&o.requestFaults, "request-faults", false, "")
	fs.StringVar(&o.trace, "trace", "", "")
	fs.BoolVar(&o.withStdin, "exit-with-stdin", false, "")
	fs.DurationVar(&o.drain, "drain", 30*time.Second, "")
	fs.StringVar(&o.flavour, "flavour", "llamacpp", "")
	fs.StringVar(&offload, "ngl", "", "")
	fs.Bool("metrics", false, "")
	fs.Bool("slots", false, "")
	fs.BoolVar(&showVersion, "version", false, "")
	err := fs.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		_, _ = io.WriteString(stdout, usage)
		return nil, exitOK
	case err == nil && showVersion:
		_, _ = fmt.Fprintln(stdout, "enginesim", version.String())
		return nil, exitOK
	case err == nil:
		err = o.check(fs.NArg())
	}
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "enginesim: %v\nenginesim: see --help\n", err)
		return nil, exitUsage
	}
	return &o, exitOK
}

func (o *options) check(rest int) error {
	var errs []error
	if rest > 0 {
		errs = append(errs, errors.New("there are arguments that are no flags"))
	}
	if n, err := strconv.Atoi(o.port); err != nil || n < 0 || n > 65535 {
		errs = append(errs, errors.New("--port: not 0 to 65535"))
	}
	if o.slots < 1 || o.slots > 4096 {
		errs = append(errs, errors.New("-np: not 1 to 4096"))
	}
	if o.ctx < 0 || o.ctx > 0 && o.ctx < o.slots {
		errs = append(errs, errors.New("-c: less than one token per slot"))
	}
	switch worker.Flavour(o.flavour) {
	case worker.LlamaCPP, worker.VLLM, worker.Ollama, worker.Generic:
	default:
		errs = append(errs, errors.New("--flavour: not one of llamacpp vllm ollama generic"))
	}
	for _, f := range o.faults {
		if _, _, err := exitAs(f.Arg); f.Kind == "exit" && err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// config turns the flags into an engine's.
func (o *options) config() (workertest.Config, error) {
	cfg := workertest.Config{
		Model: o.model, Alias: o.alias, Flavour: worker.Flavour(o.flavour), Seed: o.seed, Slots: o.slots, Ctx: o.ctx / o.slots,
		LoadDelay: o.loadDelay, Preset: o.preset, Faults: o.faults, RequestFaults: o.requestFaults,
	}
	if cfg.Model == "" && o.file != "" {
		cfg.Model = strings.TrimSuffix(path.Base(o.file), ".gguf")
	}
	if o.keyFile != "" {
		keys, err := readKeys(o.keyFile)
		if err != nil {
			return cfg, err
		}
		cfg.Keys = keys
	}
	return cfg, nil
}

// maxKeyFile bounds what is read of a key file.
const maxKeyFile = 64 << 10

// readKeys returns the lines of a file that are neither empty nor comments.
func readKeys(name string) (keys []string, err error) {
	path, err := filepath.Abs(name)
	if err != nil {
		return nil, fmt.Errorf("--api-key-file: %w", err)
	}
	text, _, err := secrets.ReadFile(context.Background(), path, secrets.Rules{MaxBytes: maxKeyFile, Binary: true})
	if err != nil {
		return nil, fmt.Errorf("--api-key-file: %w", err)
	}
	defer text.Destroy()
	err = text.Use(func(b []byte) error {
		for line := range bytes.Lines(b) {
			if k := strings.TrimSpace(string(line)); k != "" && !strings.HasPrefix(k, "#") {
				keys = append(keys, k)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		return nil, errors.New("--api-key-file: has no key, so nobody could be told from a stranger")
	}
	return keys, nil
}
