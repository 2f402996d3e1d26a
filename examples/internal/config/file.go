package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

const (
	maxFile   = 1 << 20  // bytes of a configuration file
	configKey = "config" // names the file, so it cannot stand in it
)

// readFile reads the file that flag or environment name, else the first of the
// usual places that has one.
func (r *Resolved) readFile(flags, environ map[string]given, read func(string) ([]byte, error), out *faults) map[string]given {
	path, data, ok := r.open(flags, environ, read, out)
	if !ok {
		return nil
	}
	r.File = path
	if len(data) > maxFile {
		out.add(&Fault{Name: path, Source: "file", Allowed: "at most 1 MiB", Fix: "shorten it"})
		return nil
	}
	var tree map[string]toml.Primitive
	meta, err := toml.NewDecoder(bytes.NewReader(data)).Decode(&tree)
	if err != nil {
		// The parser's words may repeat what the file holds; the place is enough.
		source, near := path, ""
		if pe, ok := errors.AsType[toml.ParseError](err); ok {
			source += ":" + strconv.Itoa(pe.Position.Line)
			near = pe.LastKey
		}
		f := &Fault{Name: "file", Source: source, Allowed: "TOML", Fix: "mend the line or the one before"}
		if near != "" {
			f.Fix += ", near the key " + quote(near)
		}
		out.add(f)
		return nil
	}
	r.meta = meta
	found := map[string]given{}
	for _, key := range topKeys(meta) {
		r.take(key, tree[key], path+line(data, key), found, out)
	}
	return found
}

func (r *Resolved) open(flags, environ map[string]given, read func(string) ([]byte, error), out *faults) (string, []byte, bool) {
	for _, from := range []map[string]given{flags, environ} {
		g, ok := from[configKey]
		if !ok {
			continue
		}
		path := g.parts[0]
		if rest, ok := strings.CutPrefix(path, "~/"); ok {
			path = strings.TrimSuffix(r.env["HOME"], "/") + "/" + rest
		}
		data, err := read(path)
		if err != nil {
			out.add(&Fault{Name: g.name, Value: quote(path), Source: g.source, Allowed: "a file that can be read", Fix: reason(err)})
		}
		return path, data, err == nil
	}
	places := []string{"/etc/llorch/" + r.Program + ".toml"}
	if home := r.env["HOME"]; home != "" {
		places = append([]string{strings.TrimSuffix(home, "/") + "/.config/llorch/" + r.Program + ".toml"}, places...)
	}
	for _, path := range places {
		switch data, err := read(path); {
		case err == nil:
			return path, data, true
		case !errors.Is(err, fs.ErrNotExist):
			out.add(&Fault{Name: path, Source: "file", Allowed: "a file that can be read", Fix: reason(err)})
			return path, nil, false
		}
	}
	return "", nil, false
}

// reason is the cause of a failed read without the path, which stands before it.
func reason(err error) string {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return "mend this: " + pe.Err.Error()
	}
	return "mend this: " + err.Error()
}

// topKeys lists the keys of the first level in the order of the file.
func topKeys(meta toml.MetaData) []string {
	var keys []string
	seen := map[string]bool{}
	for _, k := range meta.Keys() {
		if !seen[k[0]] {
			seen[k[0]] = true
			keys = append(keys, k[0])
		}
	}
	return keys
}

// line finds where a key of the first level stands, as ":LINE"; "" if it is
// written in a way that this simple search does not see.
func line(data []byte, key string) string {
	n := 0
	for text := range bytes.Lines(data) {
		n++
		text = bytes.TrimSpace(text)
		name := bytes.TrimLeft(text, "[ \t")
		name, _, _ = bytes.Cut(name, []byte("="))
		name = bytes.Trim(name, "] \t\"'")
		if string(name) == key {
			return ":" + strconv.Itoa(n)
		}
	}
	return ""
}

// take reads one key of the file.
func (r *Resolved) take(key string, prim toml.Primitive, source string, found map[string]given, out *faults) {
	if key == "pool" && r.Program == PoolManagerd {
		r.pools = prim
		return
	}
	var names []string
	for i := range r.vars {
		v := &r.vars[i]
		if v.Key == configKey {
			continue
		}
		if v.key() == key {
			parts, ok := r.native(v, prim)
			if g := (given{parts: parts, name: key, source: source}); !ok {
				out.add(&Fault{Name: key, Source: source, Allowed: v.toml() + ": " + v.allowed(), Fix: "mend it"})
			} else if len(parts) > 0 {
				found[v.Key] = g
			}
			return
		}
		if v.Secret() && v.Key == key {
			out.add(&Fault{Name: key, Source: source, Allowed: "no secret in this file", Fix: "move it to a file of its own and name that as " + v.key()})
			return
		}
		names = append(names, v.key())
	}
	f := &Fault{Name: strings.Trim(quote(key), `"`), Source: source, Allowed: "a key that " + r.Program + " knows", Fix: "remove it"}
	if near := nearest(key, names); near != "" {
		f.Fix = "did you mean " + near + "?"
	}
	out.add(f)
}

// native decodes a value of the file as the type that v asks for.
func (r *Resolved) native(v *Var, prim toml.Primitive) (parts []string, ok bool) {
	var value any
	if r.meta.PrimitiveDecode(prim, &value) != nil {
		return nil, false
	}
	switch value := value.(type) {
	case bool:
		return []string{strconv.FormatBool(value)}, v.Kind == Bool
	case int64:
		return []string{strconv.FormatInt(value, 10)}, v.Kind == Int
	case string:
		return []string{value}, !v.list() && v.Kind != Bool && v.Kind != Int
	case []any:
		for _, e := range value {
			s, isText := e.(string)
			if !isText {
				return nil, false
			}
			parts = append(parts, s)
		}
		return parts, v.list()
	}
	return nil, false
}

// toml names the type that a value has in the file.
func (v *Var) toml() string {
	switch {
	case v.list():
		return "an array of strings"
	case v.Kind == Bool:
		return "a boolean"
	case v.Kind == Int:
		return "an integer"
	}
	return "a string"
}

// Pools decodes the tables [[pool]] into a pointer to a slice of structs with
// toml tags; without such tables it leaves the slice as it is. Unknown keys are
// faults.
func (r *Resolved) Pools(into any) error {
	if !r.meta.IsDefined("pool") {
		return nil
	}
	if err := r.meta.PrimitiveDecode(r.pools, into); err != nil {
		return &Fault{Name: "[[pool]]", Source: r.File, Allowed: "keys of the types in docs/configuration.md", Fix: fmt.Sprintf("mend this: %v", err)}
	}
	var out faults
	for _, k := range r.meta.Undecoded() {
		if k[0] == "pool" {
			out.add(&Fault{Name: strings.Trim(quote(k.String()), `"`), Source: r.File, Allowed: "a key of a pool", Fix: "remove it"})
		}
	}
	return errors.Join(out...)
}
