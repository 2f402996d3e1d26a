package gpuinfo

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
)

// maxProcesses bounds what Processes returns.
const maxProcesses = 4096

// processFields is the query; the name stands last, so that its commas are harmless.
func processFields() []string { return []string{"gpu_uuid", "pid", "used_memory", "process_name"} }

// Processes asks the tool who computes on which device. ErrUnsupported: there is no
// tool, no driver or no device to ask.
func (p *smi) Processes(ctx context.Context) ([]Process, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	path, why := findTool(p.cfg.SMIPath, p.check)
	if why != nil {
		return nil, fmt.Errorf("list processes: %w", ErrUnsupported)
	}
	limited, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	res := p.run(limited, path, []string{"--query-compute-apps=" + strings.Join(processFields(), ","), smiFormat})
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s := failedRun(res)
	switch s.Reason {
	case OK:
		return parseSMIProcesses(res.stdout), nil
	case NoDevice, NoDriver:
		return nil, fmt.Errorf("list processes: %w: %s", ErrUnsupported, s.Detail)
	}
	return nil, fmt.Errorf("list processes: %s: %s", s.Reason, s.Detail)
}

// parseSMIProcesses reads the rows and adds up those of one process on one device,
// in the order of their first row. What is not known of a part is not known of the sum.
func parseSMIProcesses(out []byte) []Process {
	type key struct {
		uuid string
		pid  int
	}
	var list []Process
	at := map[key]int{}
	for line := range bytes.Lines(out) {
		p, ok := parseProcess(strings.TrimSpace(string(line)))
		if !ok {
			continue
		}
		k := key{p.UUID, p.PID}
		i, seen := at[k]
		switch {
		case seen && (list[i].Used == nil || p.Used == nil):
			list[i].Used = nil
		case seen:
			list[i].Used = new(addKnown(*list[i].Used, p.Used))
		case len(list) < maxProcesses:
			at[k] = len(list)
			list = append(list, p)
		}
	}
	return slices.Clip(list)
}

func parseProcess(line string) (Process, bool) {
	values := strings.SplitN(line, ",", len(processFields()))
	if len(values) != len(processFields()) {
		return Process{}, false
	}
	for i := range values {
		values[i] = strings.TrimSpace(values[i])
	}
	pid, ok := within[int](values[1], 1, math.MaxInt32)
	if !ok || special(values[0]) != "" {
		return Process{}, false
	}
	p := Process{PID: *pid, UUID: clean(values[0], maxText)}
	p.Used, _ = mebibytes(values[2])
	if special(values[3]) == "" {
		p.Name = clean(values[3], maxName)
	}
	return p, true
}
