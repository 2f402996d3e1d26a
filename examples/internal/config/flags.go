package config

import (
	"slices"
	"strings"
)

// readFlags reads the command line: --name VALUE, --name=VALUE, or --name for a
// bool. It sets Action and JSON.
func (r *Resolved) readFlags(args []string, fs *faults) map[string]given {
	found := map[string]given{}
	json := false
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		switch arg {
		case "-h", "--help":
			r.Action = Help
			return nil
		case "--help-all":
			r.Action = HelpAll
			return nil
		case "--version":
			r.Action = Version
			return nil
		case "--check-config":
			r.Action = Check
			continue
		case "--json":
			json = true
			continue
		}
		args = r.readFlag(arg, args, found, fs)
	}
	if r.JSON = json && r.Action == Check; json && !r.JSON {
		fs.add(&Fault{Name: "--json", Source: "flag", Allowed: "--check-config beside it", Fix: "add --check-config, or remove it", Usage: true})
	}
	return found
}

// readFlag reads one flag and returns the arguments that are left.
func (r *Resolved) readFlag(arg string, args []string, found map[string]given, fs *faults) []string {
	name, value, has := strings.Cut(arg, "=")
	v, fault := r.flag(name)
	if fault != nil {
		if !has && v == nil && strings.HasPrefix(name, "--") && len(args) > 0 && !strings.HasPrefix(args[0], "-") {
			args = args[1:] // most likely the value of the flag that is unknown
		}
		fs.add(fault)
		return args
	}
	switch {
	case has:
	case v.Kind == Bool:
		value = "true"
	case len(args) == 0:
		fs.add(&Fault{Name: name, Source: "flag", Allowed: "a value: " + v.allowed(), Fix: "add it", Usage: true})
		return args
	default:
		value, args = args[0], args[1:]
	}
	g := given{parts: v.split(value), name: name, source: "flag"}
	switch before, twice := found[v.Key]; {
	case twice && v.list():
		g.parts = slices.Concat(before.parts, g.parts)
	case twice:
		fs.add(&Fault{Name: name, Source: "flag", Allowed: "to be given once", Fix: "remove all but one", Usage: true})
	}
	found[v.Key] = g
	return args
}

// flag finds the variable that a flag sets. With a fault, the variable is not
// nil if the flag is one that only looks like it.
func (r *Resolved) flag(name string) (*Var, *Fault) {
	f := &Fault{Source: "flag", Usage: true}
	key, dashed := strings.CutPrefix(name, "--")
	if !dashed || key == "" {
		// It may be a secret that lost its flag: it is not shown.
		f.Name, f.Allowed, f.Fix = "argument", "flags only, each beginning with --", "see --help"
		return nil, f
	}
	var names []string
	for i := range r.vars {
		v := &r.vars[i]
		if strings.ReplaceAll(v.key(), "_", "-") == key {
			return v, nil
		}
		if v.Secret() && strings.ReplaceAll(v.Key, "_", "-") == key {
			f.Name, f.Allowed = name, "no secret on a command line, where every user of the machine can read it"
			f.Fix = "use " + name + "-file PATH or " + v.Env + "_FILE"
			return nil, f
		}
		names = append(names, "--"+strings.ReplaceAll(v.key(), "_", "-"))
	}
	names = append(names, "--help", "--help-all", "--version", "--check-config", "--json")
	f.Name, f.Allowed, f.Fix = quote(name), "a flag that "+r.Program+" knows", "see --help and --help-all"
	if near := nearest(name, names); near != "" {
		f.Fix = "did you mean " + near + "?"
	}
	return nil, f
}
