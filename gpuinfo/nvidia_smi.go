package gpuinfo

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	smiName      = "nvidia-smi"
	maxFallbacks = 4       // fields taken out one by one before the basic set is asked
	maxLogged    = 1 << 10 // of raw tool output, at debug level only
)

// smi is the provider that asks nvidia-smi.
type smi struct {
	path    string
	timeout time.Duration
	maxOut  int
	check   func(string) *trustError
	log     *slog.Logger
	runner  *runner

	mu      sync.Mutex
	fields  []string // the set that worked last
	fieldsD string   // the driver version it worked with
}

func newSMI(cfg AutoConfig, check func(string) *trustError) *smi {
	p := &smi{path: cfg.SMIPath, timeout: cfg.Timeout, maxOut: cfg.MaxOutput, check: check, log: cfg.Logger, runner: newRunner()}
	if p.timeout == 0 {
		p.timeout = 5 * time.Second
	}
	p.timeout = min(max(p.timeout, 100*time.Millisecond), 30*time.Second)
	if p.maxOut == 0 {
		p.maxOut = 1 << 20
	}
	p.maxOut = min(max(p.maxOut, 4<<10), 64<<20)
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	return p
}

func (p *smi) Name() string { return smiName }

// Snapshot asks the tool once, or a few times while it refuses field names, all
// within one time limit.
func (p *smi) Snapshot(ctx context.Context) (Snapshot, error) {
	if err := ctx.Err(); err != nil {
		return Snapshot{}, err
	}
	start := time.Now()
	s := p.take(ctx)
	if err := ctx.Err(); err != nil && s.Reason != OK {
		return Snapshot{}, err
	}
	s.Provider, s.At, s.Took = smiName, start.UTC().Round(0), time.Since(start).Round(time.Millisecond)
	return s, nil
}

func (p *smi) take(ctx context.Context) Snapshot {
	if !supported {
		return Snapshot{Reason: NoDevice, Detail: "GPU discovery works on Linux only"}
	}
	path, why := findTool(p.path, p.check)
	if why != nil {
		return Snapshot{Reason: why.reason, Detail: why.text}
	}
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	fields := p.workingFields()
	for tries := 0; ; tries++ {
		res := p.runner.run(ctx, path, smiArgs(fields), smiEnv(path), p.maxOut)
		p.debug(ctx, res)
		if res.end == ended && res.code == 2 {
			if name, ok := invalidField(slices.Concat(res.stdout, res.stderr)); ok && tries <= maxFallbacks {
				fields = fewer(fields, name, tries)
				continue
			}
		}
		s := smiSnapshot(res, fields)
		p.keep(fields, s)
		return s
	}
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

// keep remembers a set that gave devices until the driver changes.
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
	return []string{"--query-gpu=" + strings.Join(fields, ","), "--format=csv,noheader,nounits"}
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

// smiSnapshot turns one ended run into a result; it is pure.
func smiSnapshot(res runResult, fields []string) Snapshot {
	switch res.end {
	case startFailed:
		return Snapshot{Reason: Failed, Detail: "nvidia-smi could not be started"}
	case timedOut:
		return Snapshot{Reason: Timeout, Detail: "nvidia-smi did not answer in time"}
	case tooMuch:
		return Snapshot{Reason: ParseFailed, Detail: "nvidia-smi printed too much"}
	case hung:
		return Snapshot{Reason: DriverHung, Detail: fmt.Sprintf("nvidia-smi has been hanging in the driver for %d ms", res.age.Milliseconds())}
	case ended:
	}
	if reason, text := exitReason(res); reason != OK {
		return Snapshot{Reason: reason, Detail: fmt.Sprintf("%s (exit code %d)", text, res.code)}
	}
	devices, skipped := parseSMI(res.stdout, fields)
	s := Snapshot{Devices: devices}
	for _, d := range devices {
		if d.Driver != "" {
			s.Driver = d.Driver
			break
		}
	}
	switch {
	case s.anyUsable():
		s.Reason = OK
	case len(devices) > 0:
		s.Reason, s.Detail = Failed, "no device is usable"
	case skipped > 0:
		s.Reason, s.Detail = ParseFailed, "no line of nvidia-smi could be read"
	case res.code != 0:
		s.Reason, s.Detail = Failed, fmt.Sprintf("nvidia-smi failed (exit code %d)", res.code)
	default:
		s.Reason, s.Detail = NoDevice, "nvidia-smi lists no device"
	}
	if skipped > 0 {
		s.Detail = strings.TrimPrefix(s.Detail+", skipped "+strconv.Itoa(skipped), ", ")
	}
	return s
}

// exitReason maps the tool's exit codes; OK means that the rows are to be read.
func exitReason(res runResult) (Reason, string) {
	switch res.code {
	case 0, 15: // 15: a device is lost, the rows of the others did arrive
		return OK, ""
	case 4:
		return Permission, "nvidia-smi has no permission"
	case 6:
		return NoDevice, "nvidia-smi found no device"
	case 9, 12, 13:
		return NoDriver, "the NVIDIA driver is not loaded"
	case 18:
		return DriverMismatch, "driver and library versions differ"
	}
	if versionMismatch(res) {
		return DriverMismatch, "driver and library versions differ"
	}
	return Failed, "nvidia-smi failed"
}

func versionMismatch(res runResult) bool {
	text := bytes.ToLower(slices.Concat(res.stderr, res.stdout))
	return bytes.Contains(text, []byte("version mismatch"))
}
