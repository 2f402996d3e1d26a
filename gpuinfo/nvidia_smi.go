package gpuinfo

import (
	"context"
	"io/fs"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	smiName      = "nvidia-smi"
	smiFormat    = "--format=csv,noheader,nounits"
	maxFallbacks = 4       // fields taken out one by one before the basic set is asked
	maxLogged    = 1 << 10 // of raw tool output, at debug level only
)

// smi is the provider that asks nvidia-smi.
type smi struct {
	path    string
	timeout time.Duration
	maxOut  int
	check   func(string) *trustError
	root    fs.FS // for the memory of the host
	log     *slog.Logger
	runner  *runner

	mu      sync.Mutex
	fields  []string // the set that worked last
	fieldsD string   // the driver version it worked with
}

func newSMI(cfg AutoConfig, check func(string) *trustError) *smi {
	cfg = cfg.complete()
	return &smi{path: cfg.SMIPath, timeout: cfg.Timeout, maxOut: cfg.MaxOutput, check: check, root: cfg.Root, log: cfg.Logger, runner: newRunner()}
}

func (p *smi) Name() string { return smiName }

// Snapshot asks the tool once, or a few times while it refuses field names, all
// within one time limit.
func (p *smi) Snapshot(ctx context.Context) (Snapshot, error) {
	s, _, err := p.snapshot(ctx)
	return s, err
}

// snapshot also reports whether the tool said that a device is lost.
func (p *smi) snapshot(ctx context.Context) (s Snapshot, lost bool, err error) {
	if err := ctx.Err(); err != nil {
		return Snapshot{}, false, err
	}
	start := time.Now()
	s, lost = p.take(ctx)
	if err := ctx.Err(); err != nil && s.Reason != OK {
		return Snapshot{}, false, err
	}
	s.Provider, s.At, s.Took = smiName, start.UTC().Round(0), time.Since(start).Round(time.Millisecond)
	return s, lost, nil
}

func (p *smi) take(ctx context.Context) (s Snapshot, lost bool) {
	if !supported {
		return Snapshot{Reason: NoDevice, Detail: "GPU discovery works on Linux only"}, false
	}
	path, why := findTool(p.path, p.check)
	if why != nil {
		return Snapshot{Reason: why.reason, Detail: why.text}, false
	}
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	ask := smiAsk{
		host: func() hostMemory { return readHostMemory(p.root) },
		list: func() ([]byte, bool) {
			res := p.run(ctx, path, []string{"-L"})
			return res.stdout, res.end == ended && res.code == 0
		},
	}
	fields := p.workingFields()
	for tries := 0; ; tries++ {
		res := p.run(ctx, path, smiArgs(fields))
		if res.end == ended && res.code == exitUsage {
			if name, ok := invalidField(slices.Concat(res.stdout, res.stderr)); ok && tries <= maxFallbacks {
				fields = fewer(fields, name, tries)
				continue
			}
		}
		s := smiSnapshot(res, fields, ask)
		p.keep(fields, s)
		return s, res.end == ended && res.code == exitLost
	}
}

func (p *smi) run(ctx context.Context, path string, args []string) runResult {
	res := p.runner.run(ctx, path, args, smiEnv(path), p.maxOut)
	p.debug(ctx, res)
	return res
}

// fewer takes the refused field out, or everything that old drivers may not know.
func fewer(fields []string, refused string, tries int) []string {
	if i := slices.Index(fields, refused); i >= 0 && tries < maxFallbacks {
		return slices.Delete(slices.Clone(fields), i, i+1)
	}
	return basicFields()
}

// workingFields returns the set that worked last, or the full one.
func (p *smi) workingFields() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fields == nil {
		return smiFields()
	}
	return p.fields
}

// keep remembers the set of fields that gave devices until the driver changes.
func (p *smi) keep(fields []string, s Snapshot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case s.Driver == "":
	case p.fields != nil && p.fieldsD != s.Driver:
		p.fields, p.fieldsD = nil, "" // a new driver may know more
	default:
		p.fields, p.fieldsD = fields, s.Driver
	}
}

func smiArgs(fields []string) []string {
	return []string{"--query-gpu=" + strings.Join(fields, ","), smiFormat}
}

func smiEnv(path string) []string {
	env := []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "LANG=C"}
	if strings.HasPrefix(path, "/usr/local/nvidia/bin/") {
		env = append(env, "LD_LIBRARY_PATH=/usr/local/nvidia/lib64")
	}
	return env
}

func (p *smi) debug(ctx context.Context, res runResult) {
	if !p.log.Enabled(ctx, slog.LevelDebug) {
		return
	}
	p.log.DebugContext(ctx, "nvidia-smi answered", slog.Int("exit_code", res.code), slog.String("stdout", quoted(res.stdout)), slog.String("stderr", quoted(res.stderr)))
}

func quoted(b []byte) string {
	return strconv.QuoteToASCII(string(b[:min(len(b), maxLogged)]))
}
