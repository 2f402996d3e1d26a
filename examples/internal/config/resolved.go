package config

import (
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/BurntSushi/toml"
)

// Resolved is a configuration without a fault. It does not change; all methods
// are safe for concurrent use, except Pools.
//
// The getters panic on a key that the program's part of the table does not hold
// with that type: such a call is wrong whatever the user configures.
type Resolved struct {
	Program string
	Action  Action
	JSON    bool   // --json was given with --check-config
	File    string // the configuration file that was read, "" = none

	vars   []Var
	values map[string]setting
	env    map[string]string // what is set and not empty
	pools  toml.Primitive
	meta   toml.MetaData
}

// String returns a value of kind Text, Path, Word, Listen, URL, Region, Store or
// GPU; "" if it is not set.
func (r *Resolved) String(key string) string { return get[string](r, key) }

// Bool returns a value of kind Bool.
func (r *Resolved) Bool(key string) bool { return get[bool](r, key) }

// Int returns a value of kind Int in the unit of its name.
func (r *Resolved) Int(key string) int64 { return get[int64](r, key) }

// List returns a value of kind Words, URLs or Hosts; nil if it is not set.
func (r *Resolved) List(key string) []string { return slices.Clone(get[[]string](r, key)) }

// Pairs returns a value of kind Engines or Binaries in the order given; nil if
// it is not set.
func (r *Resolved) Pairs(key string) []Pair { return slices.Clone(get[[]Pair](r, key)) }

// Duration returns a value of kind Int whose unit is a time.
func (r *Resolved) Duration(key string) time.Duration {
	n := time.Duration(r.Int(key))
	switch unit := r.find(key).Unit; unit {
	case "ms":
		return n * time.Millisecond
	case "secs":
		return n * time.Second
	case "days":
		return n * 24 * time.Hour
	default:
		panic(fmt.Sprintf("config: internal error: the unit of %s is %q, not a time", key, unit))
	}
}

// Given reports whether the value of a key was set by anyone, or is the default.
func (r *Resolved) Given(key string) bool {
	if r.find(key) == nil {
		panic("config: internal error: " + r.Program + " has no key " + key)
	}
	return r.values[key].source != "default"
}

func get[T any](r *Resolved, key string) T {
	s, ok := r.values[key]
	value, typed := s.value.(T)
	if !ok || !typed && s.value != nil {
		panic(fmt.Sprintf("config: internal error: %s has no %T under the key %s", r.Program, value, key))
	}
	return value
}

// LookupEnv returns a variable that is set and not empty. It is made for
// secrets.Config: a secret is found under its canonical name, whichever of its
// names, flag or key it came by, and NAME_FILE is the file that won.
func (r *Resolved) LookupEnv(name string) (string, bool) {
	for i := range r.vars {
		v := &r.vars[i]
		if !v.Secret() || name != v.Env && name != v.Env+"_FILE" {
			continue
		}
		switch value := r.values[v.Key].value.(type) {
		case secretValue:
			return string(value), name == v.Env
		case string:
			return value, name != v.Env
		}
		return "", false
	}
	value, ok := r.env[name]
	return value, ok
}

// An Origin says where one value came from.
type Origin struct {
	Key    string `json:"key"`
	Value  string `json:"value"`  // [REDACTED] for a secret, passwords in URLs left out
	Source string `json:"source"` // flag, env NAME, FILE:LINE, FILE or default
}

// Explain yields every value in the order of the table.
func (r *Resolved) Explain() iter.Seq[Origin] {
	return func(yield func(Origin) bool) {
		for i := range r.vars {
			s := r.values[r.vars[i].Key]
			if !yield(Origin{r.vars[i].Key, s.text, s.source}) {
				return
			}
		}
	}
}
