package config

import (
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/llorch/llorch/inputvalidation"
	"github.com/llorch/llorch/poolregistry"
)

const (
	maxText = 512 // bytes of a text, path or element of a list
	maxList = 256 // elements of a list
)

// parse reads the parts of a value: one, or the elements of a list. The result
// has the Go type that the Kind names; ok is false if the value is not allowed.
func (v *Var) parse(parts []string) (value any, ok bool) {
	if v.list() {
		return v.parseList(parts)
	}
	if len(parts) != 1 || !printable(parts[0]) {
		return nil, false
	}
	s := parts[0]
	switch v.Kind {
	case Bool:
		return s == "true", s == "true" || s == "false"
	case Int:
		n, err := strconv.ParseInt(s, 10, 64)
		return n, err == nil && n >= v.Min && n <= v.Max
	case Word:
		return s, slices.Contains(v.Enum, s)
	case Text:
		return s, s == strings.TrimSpace(s)
	case Path:
		return s, true
	case Token: // what is given is the path of a file
		return s, filepath.IsAbs(s) && filepath.Clean(s) == s
	case Listen:
		return s, isListen(s)
	case URL:
		return s, isURL(s)
	case Region:
		_, err := poolregistry.ParseRegion(s)
		return s, err == nil
	case Store:
		path, file := strings.CutPrefix(s, "sqlite:")
		return s, s == "memory" || file && path != ""
	case GPU:
		path, fake := strings.CutPrefix(s, "fake:")
		return s, s == "auto" || s == "nvml" || s == "none" || fake && path != ""
	}
	return nil, false
}

func (v *Var) parseList(parts []string) (value any, ok bool) {
	if len(parts) > maxList {
		return nil, false
	}
	switch v.Kind {
	case Engines, Binaries:
		return v.parsePairs(parts)
	}
	for i, s := range parts {
		good := printable(s) && !slices.Contains(parts[:i], s)
		switch v.Kind {
		case Words:
			good = good && (v.Enum == nil || slices.Contains(v.Enum, s))
		case URLs:
			good = good && isURL(s)
		case Hosts:
			good = good && isHost(s)
		}
		if !good {
			return nil, false
		}
	}
	return slices.Clone(parts), true
}

func (v *Var) parsePairs(parts []string) (value any, ok bool) {
	pairs := make([]Pair, 0, len(parts))
	for _, s := range parts {
		name, val, cut := strings.Cut(s, "=")
		named := func(p Pair) bool { return p.Name == name }
		if !cut || !printable(s) || !isName(name) || slices.ContainsFunc(pairs, named) {
			return nil, false
		}
		if v.Kind == Engines && !isURL(val) || v.Kind == Binaries && (!filepath.IsAbs(val) || filepath.Clean(val) != val) {
			return nil, false
		}
		pairs = append(pairs, Pair{name, val})
	}
	return pairs, true
}

// allowed says in words what parse accepts.
func (v *Var) allowed() string {
	switch v.Kind {
	case Bool:
		return "true or false"
	case Int:
		return "an integer from " + strconv.FormatInt(v.Min, 10) + " to " + strconv.FormatInt(v.Max, 10)
	case Word:
		return orList(v.Enum)
	case Words:
		if v.Enum == nil {
			return "a list of words, each once"
		}
		return "a list of " + orList(v.Enum) + ", each once"
	case Listen:
		return "HOST:PORT"
	case URL:
		return "http://HOST or https://HOST, without user, query or fragment"
	case URLs:
		return "a list of http://HOST or https://HOST, each once, without user, query or fragment"
	case Hosts:
		return "a list of host names without scheme and port, each once"
	case Engines:
		return "a list of NAME=URL, names in a-z A-Z 0-9 . _ -, each once"
	case Binaries:
		return "a list of NAME=ABSOLUTE PATH, names in a-z A-Z 0-9 . _ -, each once"
	case Region:
		return "a country of ISO 3166-1 such as DE, or EU, US, ASIA or UNKNOWN"
	case Store:
		return "memory or sqlite:PATH"
	case GPU:
		return "auto, nvml, none or fake:FILE"
	case Token:
		return "the absolute path of a file that holds the secret"
	}
	return "printable text of at most " + strconv.Itoa(maxText) + " bytes"
}

func orList(words []string) string {
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

func printable(s string) bool {
	return s != "" && len(s) <= maxText && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

func isName(s string) bool {
	return inputvalidation.CheckIdentifier("name", s, inputvalidation.IdentRules{Max: 64, Extra: "._-"}) == nil
}

func isHost(s string) bool {
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_") == "" || net.ParseIP(strings.Trim(s, "[]")) != nil
}

func isListen(s string) bool {
	_, port, err := net.SplitHostPort(s)
	n, perr := strconv.ParseUint(port, 10, 16)
	return err == nil && perr == nil && strconv.FormatUint(n, 10) == port
}

func isURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" && u.User == nil &&
		u.RawQuery == "" && !u.ForceQuery && u.Fragment == ""
}
