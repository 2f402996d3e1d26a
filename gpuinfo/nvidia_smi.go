package gpuinfo

import (
	"context"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
)

const (
	smiName      = "nvidia-smi"
	smiFormat    = "--format=csv,noheader,nounits"
	maxFallbacks = 4       // fields taken out one by one before the basic set is asked
	maxLogged    = 1 << 10 // of raw tool output, at debug level only
)

// smi asks nvidia-smi.
type smi struct {
	cfg    AutoConfig
	check  func(string) *trustError
	runner *runner

	mu      sync.Mutex
	fields  []string // the set that worked last; nil: the full one
	fieldsD string   // the driver version it worked with
}

// take asks the tool once, or a few times while it refuses field names, all within
// one time limit. lost: the tool said that a device is.
func (p *smi) take(ctx context.Context) (s Snapshot, lost bool) {
	path, why := findTool(p.cfg.SMIPath, p.check)
	if why != nil {
		return Snapshot{Reason: why.reason, Detail: why.text}, false
	}
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	p.mu.Lock()
	fields := p.fields
	p.mu.Unlock()
	if fields == nil {
		fields = smiFields()
	}
	for tries := 0; ; tries++ {
		res := p.run(ctx, path, []string{"--query-gpu=" + strings.Join(fields, ","), smiFormat})
		if res.end == ended && res.code == exitUsage {
			if name, ok := invalidField(slices.Concat(res.stdout, res.stderr)); ok && tries <= maxFallbacks {
				fields = fewer(fields, name, tries)
				continue
			}
		}
		s := smiSnapshot(res, fields, p.cfg.Root, func() runResult { return p.run(ctx, path, []string{"-L"}) })
		p.keep(fields, s)
		return s, res.end == ended && res.code == exitLost
	}
}

func (p *smi) run(ctx context.Context, path string, args []string) runResult {
	res := p.runner.run(ctx, path, args, smiEnv(path), p.cfg.MaxOutput)
	p.cfg.Logger.DebugContext(ctx, "nvidia-smi answered", slog.Int("exit_code", res.code), slog.String("stdout", quoted(res.stdout)), slog.String("stderr", quoted(res.stderr)))
	return res
}

// fewer takes the refused field out, or everything that old drivers may not know.
func fewer(fields []string, refused string, tries int) []string {
	if slices.Contains(fields, refused) && tries < maxFallbacks {
		return slices.DeleteFunc(slices.Clone(fields), func(f string) bool { return f == refused })
	}
	return basicFields()
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

func smiEnv(path string) []string {
	env := []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "LANG=C"}
	if strings.HasPrefix(path, "/usr/local/nvidia/bin/") {
		env = append(env, "LD_LIBRARY_PATH=/usr/local/nvidia/lib64")
	}
	return env
}

func quoted(b []byte) string {
	return strconv.QuoteToASCII(string(b[:min(len(b), maxLogged)]))
}
