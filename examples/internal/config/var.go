package config

import "slices"

// The programs that the table serves.
const (
	Orchestratord = "orchestratord"
	PoolManagerd  = "pool-managerd"
)

// Kind says how the text of a value is read.
type Kind uint8

// The kinds of values, with the Go type of each.
const (
	Text     Kind = iota + 1 // string: printable, at most 512 bytes
	Path                     // string: of a file or folder; a leading ~/ is the home folder
	Bool                     // bool: true or false
	Int                      // int64 between Min and Max
	Word                     // string: one of Enum
	Words                    // []string: a list of Enum
	Listen                   // string: HOST:PORT
	URL                      // string: http or https, host, no user, query or fragment
	URLs                     // []string: a list of URL
	Hosts                    // []string: a list of host names, without port
	Engines                  // []Pair: a list of NAME=URL
	Binaries                 // []Pair: a list of NAME=ABSOLUTE PATH
	Region                   // string: ISO 3166-1 alpha-2, EU, US, ASIA or UNKNOWN
	Store                    // string: memory or sqlite:PATH
	GPU                      // string: auto, nvml, none or fake:FILE
	Token                    // a secret; see Resolved.LookupEnv
)

// A Pair is one element of a list NAME=VALUE.
type Pair struct{ Name, Value string }

// A Var is one thing that can be set.
type Var struct {
	Programs []string // that read it
	Group    string   // heading under which it is documented
	Env      string   // environment variable, "" = only flag and file
	Aliases  []string // older names of Env
	Key      string   // of the TOML file; the flag is the same with dashes
	Kind     Kind
	Unit     string // of an Int: secs, ms, days or bytes
	Default  string // "" = not set; a path that starts with STATE/ is beneath state_dir
	Unset    string // what holds when it is not set; beside a Default, an exception from it
	Min, Max int64
	Enum     []string
	Doc      string // one line
	Rare     bool   // only on the second page of the help
}

// Secret reports whether the value itself must never be shown. A secret has no
// flag and no key: what can be given there is the path of a file, under the name
// with _FILE or _file at its end.
func (v *Var) Secret() bool { return v.Kind == Token }

// list reports whether the value is a list, separated by commas in the
// environment and in flags, an array in the file.
func (v *Var) list() bool {
	switch v.Kind {
	case Words, URLs, Hosts, Engines, Binaries:
		return true
	}
	return false
}

// key is the name in the file.
func (v *Var) key() string {
	if v.Secret() {
		return v.Key + "_file"
	}
	return v.Key
}

// envs lists the names in the environment, the canonical one first.
func (v *Var) envs() []string {
	if v.Env == "" {
		return nil
	}
	names := append([]string{v.Env}, v.Aliases...)
	if v.Secret() {
		for _, n := range slices.Clone(names) {
			names = append(names, n+"_FILE")
		}
	}
	return names
}

// of returns the part of the table that a program reads.
func of(prog string) []Var {
	return slices.DeleteFunc(Table(), func(v Var) bool { return !slices.Contains(v.Programs, prog) })
}
