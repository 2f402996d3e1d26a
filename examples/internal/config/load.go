package config

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// Action is what the command line asks for.
type Action uint8

// The actions. For all but Run and Check nothing but the command line was read.
const (
	Run     Action = iota // start
	Check                 // --check-config: do what start-up does, but bind and run nothing
	Help                  // --help
	HelpAll               // --help-all
	Version               // --version
)

// given is a value as it came, before it is read.
type given struct {
	parts  []string // one, or the elements of a list
	name   string   // as the user wrote it
	source string
	inline bool // a secret itself, not the path of its file
}

// setting is a value that was read.
type setting struct {
	value  any
	text   string // redacted
	source string
}

// Load resolves the configuration of one program. args is the command line
// without the program's name, env the environment as of os.Environ. readFile nil
// is os.ReadFile. prog is Orchestratord or PoolManagerd.
//
// The error joins one [*Fault] for everything that is wrong; ExitCode names the
// exit code for it. An empty variable counts as unset.
func Load(prog string, args, env []string, readFile func(string) ([]byte, error)) (*Resolved, error) {
	vars := of(prog)
	if len(vars) == 0 {
		return nil, fmt.Errorf("config: no program %q in the table", prog)
	}
	if readFile == nil {
		readFile = os.ReadFile
	}
	r := &Resolved{Program: prog, vars: vars, values: make(map[string]setting, len(vars)), env: environment(env)}
	var fs faults
	flags := r.readFlags(args, &fs)
	if r.Action != Run && r.Action != Check {
		return r, nil
	}
	r.checkNames(&fs)
	environ := r.readEnv(&fs)
	file := r.readFile(flags, environ, readFile, &fs)
	for i := range vars {
		r.resolve(&vars[i], &fs, flags, environ, file)
	}
	r.expand(&fs)
	r.crossCheck(&fs)
	if len(fs) > 0 {
		return nil, errors.Join(fs...)
	}
	return r, nil
}

// resolve takes the value of v from the first source that has one.
func (r *Resolved) resolve(v *Var, fs *faults, sources ...map[string]given) {
	for _, from := range sources {
		g, ok := from[v.Key]
		if !ok {
			continue
		}
		s := setting{text: redact(strings.Join(g.parts, ",")), source: g.source}
		if g.inline {
			s.value, s.text = secretValue(g.parts[0]), "[REDACTED]"
		} else if s.value, ok = v.parse(g.parts); !ok {
			fs.reject(v, g)
			return
		}
		r.values[v.Key] = s
		return
	}
	s := setting{source: "default", text: v.Default}
	if v.Default != "" {
		s.value, _ = v.parse(v.split(v.Default))
	}
	r.values[v.Key] = s
}

// secretValue is a secret that came as such and not in a file.
type secretValue string

// reject adds the fault of a value that parse refused.
func (fs *faults) reject(v *Var, g given) {
	f := &Fault{Name: g.name, Value: v.show(g.parts), Source: g.source, Allowed: v.allowed(), Fix: "mend it"}
	if v.Default != "" {
		f.Fix = "mend it, or remove it for the default " + v.Default
	}
	address := v.Kind == Listen || v.Kind == URL || v.Kind == URLs
	if address && strings.HasPrefix(g.parts[0], "tcp://") {
		f.Fix = "Kubernetes injects this for a service of that name: set enableServiceLinks: false in the pod"
	}
	fs.add(f)
}

// split cuts a text into the elements of a list, or leaves it whole. Blanks
// around elements do not count.
func (v *Var) split(s string) []string {
	if !v.list() {
		return []string{s}
	}
	parts := strings.Split(s, ",")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return parts
}

// expand replaces STATE/ and ~/ by the folders they stand for.
func (r *Resolved) expand(fs *faults) {
	home, homeless := r.env["HOME"], false
	under := func(s string) string {
		rest, ok := strings.CutPrefix(s, "~/")
		if !ok {
			return s
		}
		homeless = homeless || home == ""
		return strings.TrimSuffix(home, "/") + "/" + rest
	}
	state := r.values["state_dir"]
	if state.source == "default" {
		state.text, _, _ = strings.Cut(r.env["STATE_DIRECTORY"], ":")
		if state.text == "" {
			state.text = "~/.local/state/llorch"
		}
		state.value = state.text
	}
	if dir, ok := state.value.(string); ok {
		state.text = under(dir)
		state.value = state.text
		r.values["state_dir"] = state
	}
	for i := range r.vars {
		v := &r.vars[i]
		s, ok := r.values[v.Key].value.(string)
		if !ok || v.Kind != Path && v.Kind != Store {
			continue
		}
		scheme, path, cut := strings.Cut(s, ":")
		if v.Kind == Path || !cut {
			scheme, path = "", s
		} else {
			scheme += ":"
		}
		if rest, ok := strings.CutPrefix(path, "STATE/"); ok && r.values[v.Key].source == "default" {
			path = state.text + "/" + rest
		}
		text := scheme + under(path)
		r.values[v.Key] = setting{text, text, r.values[v.Key].source}
	}
	if homeless {
		fs.add(&Fault{Name: "HOME", Source: "env", Allowed: "the home folder, where state_dir is by default", Fix: "set HOME, or LLORCH_STATE_DIR"})
	}
}

// crossCheck judges values that bound each other. A value that is wrong in
// itself is not judged again.
func (r *Resolved) crossCheck(fs *faults) {
	below := func(low, high string, factor int64, allowed string) {
		a, okA := r.values[low].value.(int64)
		b, okB := r.values[high].value.(int64)
		if okA && okB && a*factor > b {
			fs.add(&Fault{
				Name: low, Value: quote(r.values[low].text), Source: r.values[low].source, Allowed: allowed,
				Fix: fmt.Sprintf("lower it, or raise %s (%d)", high, b),
			})
		}
	}
	below("heartbeat_interval_secs", "node_timeout_secs", 3, "at most a third of node_timeout_secs")
	below("default_timeout_ms", "max_timeout_ms", 1, "at most max_timeout_ms")
	below("queue_timeout_ms", "max_timeout_ms", 1, "at most max_timeout_ms")
}

// find returns the variable with a key, or nil.
func (r *Resolved) find(key string) *Var {
	if i := slices.IndexFunc(r.vars, func(v Var) bool { return v.Key == key }); i >= 0 {
		return &r.vars[i]
	}
	return nil
}
