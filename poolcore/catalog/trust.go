package catalog

import (
	"path"
	"strconv"
	"strings"
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
	switch strings.ToLower(path.Ext(name)) {
	case ".gguf":
		return formatGGUF
	case ".safetensors":
		return formatSafetensors
	case ".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt":
		return formatPickle
	}
	return ""
}

func isGGUF(name string) bool { return weightFormat(name) == formatGGUF }

// wanted reports whether a file of a directory belongs to a model.
func wanted(name string) bool {
	base := path.Base(name)
	switch strings.ToLower(path.Ext(base)) {
	case ".json", ".model", ".txt":
		return true
	}
	return weightFormat(base) != "" || strings.HasPrefix(base, "tokenizer")
}

// formatOf returns the format of a set of files: all weights of one kind.
func (t Trust) formatOf(names []string) (string, error) {
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

// splitPart recognises the names of a split GGUF: x-00001-of-00003.gguf.
func splitPart(name string) (part, count int, ok bool) {
	const tail = "-00001-of-00001.gguf"
	if len(name) <= len(tail) {
		return 0, 0, false
	}
	t := name[len(name)-len(tail):]
	if t[0] != '-' || t[6:10] != "-of-" || t[15:] != ".gguf" {
		return 0, 0, false
	}
	a, errA := strconv.ParseUint(t[1:6], 10, 32)
	b, errB := strconv.ParseUint(t[10:15], 10, 32)
	if errA != nil || errB != nil || a < 1 || a > b {
		return 0, 0, false
	}
	return int(a), int(b), true
}

// splitNames returns the names of all parts of the split that name belongs to, or
// name alone.
func splitNames(name string) []string {
	_, count, ok := splitPart(name)
	if !ok || count > maxFiles {
		return []string{name}
	}
	stem := name[:len(name)-len("-00001-of-00001.gguf")]
	of := strconv.Itoa(100000 + count)[1:]
	names := make([]string, 0, count)
	for i := range count {
		names = append(names, stem+"-"+strconv.Itoa(100001 + i)[1:]+"-of-"+of+".gguf")
	}
	return names
}

// checkSplit refuses a split with a part missing.
func checkSplit(names []string) error {
	parts := map[string]int{} // how many there are, by the name of the first
	for _, n := range names {
		if _, count, ok := splitPart(n); ok && count <= maxFiles {
			parts[splitNames(n)[0]]++
		} else if ok {
			return refuse(ModelIncompatible, "a split of %d parts", count)
		}
	}
	for first, have := range parts {
		if _, count, _ := splitPart(first); have != count {
			return refuse(ModelIncompatible, "%d of %d parts of the split are missing", count-have, count)
		}
	}
	return nil
}
