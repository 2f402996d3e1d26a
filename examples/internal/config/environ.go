package config

import (
	"maps"
	"slices"
	"strings"
)

// environment reads os.Environ's form. The last of several wins, and an empty
// variable counts as unset.
func environment(env []string) map[string]string {
	m := make(map[string]string, len(env))
	for _, line := range env {
		name, value, _ := strings.Cut(line, "=")
		if delete(m, name); value != "" {
			m[name] = value
		}
	}
	return m
}

// ours reports whether a variable's name claims to be about this suite.
func ours(name string) bool {
	for _, prefix := range []string{"ORCHESTRATORD_", "ORCHD_", "POOL_MANAGERD_", "LLORCH_"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// foreign reports whether somebody else sets the variable: Kubernetes, for each
// service in the namespace; poolcore, for its engines; whoever runs the tests.
func foreign(name string) bool {
	switch name {
	case "LLORCH_WORKER_ID", "LLORCH_NIGHTLY", "LLORCH_UPDATE":
		return true
	}
	return strings.HasSuffix(name, "_SERVICE_HOST") || strings.Contains(name, "_SERVICE_PORT") ||
		strings.HasSuffix(name, "_PORT") || strings.Contains(name, "_PORT_")
}

// checkNames refuses variables with one of our prefixes that no program knows.
// Their values are not shown, because a mistyped secret is still one.
func (r *Resolved) checkNames(fs *faults) {
	var known []string
	for _, v := range Table() {
		known = append(known, v.envs()...)
	}
	for _, name := range slices.Sorted(maps.Keys(r.env)) {
		if !ours(name) || foreign(name) || slices.Contains(known, name) {
			continue
		}
		f := &Fault{Name: strings.Trim(quote(name), `"`), Source: "env", Allowed: "a variable of docs/configuration.md", Fix: "unset it"}
		if near := nearest(name, known); near != "" {
			f.Fix = "did you mean " + near + "?"
		}
		fs.add(f)
	}
}

// readEnv takes the program's own variables.
func (r *Resolved) readEnv(fs *faults) map[string]given {
	found := map[string]given{}
	for i := range r.vars {
		v := &r.vars[i]
		for _, name := range v.envs() {
			value, ok := r.env[name]
			if !ok {
				continue
			}
			before, twice := found[v.Key]
			g := given{parts: v.split(value), name: name, source: "env " + name, inline: v.Secret() && !strings.HasSuffix(name, "_FILE")}
			if !twice {
				found[v.Key] = g
			} else if !slices.Equal(before.parts, g.parts) || before.inline != g.inline {
				fs.add(&Fault{
					Name: name, Value: v.show(g.parts), Source: g.source, Allowed: "what " + before.name + " says, for both set the same",
					Fix: "unset one of them",
				})
			}
		}
	}
	return found
}

// nearest returns the name with the smallest edit distance from s, at most 2,
// the first in the alphabet among equals; "" if there is none.
func nearest(s string, names []string) string {
	best, least := "", 3
	for _, name := range slices.Sorted(slices.Values(names)) {
		if d := distance(s, name, least); d < least {
			best, least = name, d
		}
	}
	return best
}

// distance counts the insertions, deletions, replacements and swaps of
// neighbours between a and b; what would be limit or more is reported as limit.
func distance(a, b string, limit int) int {
	if max(len(a)-len(b), len(b)-len(a)) >= limit {
		return limit
	}
	rows := [3][]int{make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)}
	for j := range rows[1] {
		rows[1][j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, row := rows[0], rows[1], rows[2]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		rows = [3][]int{last, row, before}
	}
	return min(rows[1][len(b)], limit)
}
