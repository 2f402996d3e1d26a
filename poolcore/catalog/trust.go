package catalog

import (
	"path"
	"slices"
	"strings"

	"github.com/llorch/llorch/poolcore/fetch"
)

// Trust says which model files are accepted. The zero value takes GGUF and
// safetensors, from the hosts that the sources are allowed to ask.
type Trust struct {
	// Strict demands that the reference or the caller states the SHA-256 of what
	// is added: of the file, or for several files the model's digest.
	Strict bool
	// AllowPickle takes .bin .pt .pth .pkl .ckpt too. Loading such a file runs
	// the program inside it.
	AllowPickle bool
}

// The formats of weights.
const (
	formatGGUF        = "gguf"
	formatSafetensors = "safetensors"
	formatPickle      = "pickle"
)

// weightFormat returns the format that a file name promises, "" if it holds no
// weights.
func weightFormat(name string) string {
	switch ext := strings.ToLower(path.Ext(name)); {
	case ext == ".gguf":
		return formatGGUF
	case ext == ".safetensors":
		return formatSafetensors
	case fetch.IsPickle(name):
		return formatPickle
	}
	return ""
}

func isGGUF(name string) bool { return weightFormat(name) == formatGGUF }

// choose leaves out pickles where other weights are, and refuses what Trust does
// not take.
func (t Trust) choose(names []string) ([]string, error) {
	safe := func(name string) bool { f := weightFormat(name); return f != "" && f != formatPickle }
	if slices.ContainsFunc(names, safe) {
		names = slices.DeleteFunc(names, fetch.IsPickle)
	}
	_, err := t.formatOf(names)
	return names, err
}

// formatOf returns the format of a set of files: all weights of one kind.
func (t Trust) formatOf(names []string) (string, error) {
	if len(names) > maxFiles {
		return "", refuse(InvalidParams, "the model has %d files, at most %d", len(names), maxFiles)
	}
	format := ""
	for _, n := range names {
		f := weightFormat(n)
		switch {
		case f == "":
		case f == formatPickle && !t.AllowPickle:
			return "", refuse(Untrusted, "a pickle file is allowed by allow_pickle only")
		case format != "" && f != format:
			return "", refuse(ModelIncompatible, "weights of two formats in one model")
		default:
			format = f
		}
	}
	if format == "" {
		return "", refuse(Untrusted, "no weights in format gguf or safetensors")
	}
	return format, checkSplit(names)
}

// checkSplit refuses a split GGUF with a part missing.
func checkSplit(names []string) error {
	there := map[string]bool{}
	for _, n := range names {
		there[n] = true
	}
	for _, n := range names {
		parts := fetch.SplitParts(n)
		if n != parts[0] && there[parts[0]] {
			continue // looked at with the first
		}
		for i, p := range parts {
			if !there[p] {
				return refuse(ModelIncompatible, "part %d of %d of a split is missing", i+1, len(parts))
			}
		}
	}
	return nil
}
