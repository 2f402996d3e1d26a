package config_test

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/llorch/llorch/examples/internal/config"
)

func programs() []string { return []string{config.Orchestratord, config.PoolManagerd} }

// TestTable holds the table to its own rules: CFG-1's one flag for one variable,
// defaults that their own kind allows, and a sentence for everything.
func TestTable(t *testing.T) {
	names := map[string]bool{}
	for _, v := range config.Table() {
		for _, n := range append([]string{v.Env}, v.Aliases...) {
			if n != "" && names[n] {
				t.Errorf("%s: two variables have this name", n)
			}
			names[n] = true
		}
		switch {
		case v.Doc == "" || v.Key == "" || v.Group == "" || v.Kind == 0 || len(v.Programs) == 0:
			t.Errorf("%+v: incomplete", v)
		case v.Default == "" && v.Unset == "":
			t.Errorf("%s: neither a default nor what happens without", v.Key)
		case v.Kind == config.Int && v.Min >= v.Max:
			t.Errorf("%s: no range", v.Key)
		case strings.Trim(v.Key, "abcdefghijklmnopqrstuvwxyz_") != "":
			t.Errorf("%s: not a key", v.Key)
		}
	}
	for _, prog := range programs() {
		flags := map[string]string{}
		for _, v := range config.Table() {
			if !slices.Contains(v.Programs, prog) {
				continue
			}
			if other, ok := flags[v.Key]; ok {
				t.Errorf("%s: %s and %s have the flag --%s", prog, other, v.Env, v.Key)
			}
			flags[v.Key] = v.Env
		}
		// A default that its own kind refuses would be a nil value here.
		r := load(t, prog, nil, nil, nil)
		for _, v := range config.Table() {
			if !slices.Contains(v.Programs, prog) || v.Default == "" {
				continue
			}
			flag := "--" + strings.ReplaceAll(v.Key, "_", "-") + "=" + strings.ReplaceAll(v.Default, "STATE/", "/s/")
			again := load(t, prog, []string{flag}, nil, nil)
			if !again.Given(v.Key) || r.Given(v.Key) {
				t.Errorf("%s: the default of %s was not read", prog, v.Key)
			}
		}
	}
}

// TestHelpPages proves that each page of help fits a terminal and that together
// they name every flag once.
func TestHelpPages(t *testing.T) {
	for _, prog := range programs() {
		first, second := config.HelpText(prog, false), config.HelpText(prog, true)
		for _, page := range []string{first, second} {
			if n := strings.Count(page, "\n"); n > 40 {
				t.Errorf("%s: a page of %d lines, want at most 40", prog, n)
			}
			for l := range strings.Lines(page) {
				if n := utf8.RuneCountInString(strings.TrimRight(l, "\n")); n > 80 {
					t.Errorf("%s: %d columns, want at most 80: %s", prog, n, l)
				}
			}
		}
		for _, v := range config.Table() {
			flag := "  --" + strings.ReplaceAll(v.Key, "_", "-")
			if v.Secret() {
				flag += "-file"
			}
			if n := strings.Count(first+second, flag+" "); n != 1 && slices.Contains(v.Programs, prog) {
				t.Errorf("%s: the help names %q %d times", prog, flag, n)
			}
		}
	}
}
