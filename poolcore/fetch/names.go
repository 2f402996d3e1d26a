package fetch

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// IsPickle reports whether a name has an ending of Python's pickles, which run
// code when they are loaded.
func IsPickle(name string) bool {
	return slices.Contains([]string{".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"}, strings.ToLower(path.Ext(name)))
}

// InRepository reports whether a reference to a whole repository takes the file.
// Folders inside hold other forms of the same model and are left out: no pattern
// matches a slash.
func InRepository(name string) bool {
	if IsPickle(name) {
		return false
	}
	for _, pattern := range []string{"*.safetensors", "*.json", "tokenizer*", "*.model", "*.txt"} {
		if ok, _ := path.Match(pattern, name); ok {
			return true
		}
	}
	return false
}

// maxParts bounds the parts of one model.
const maxParts = 1000

// SplitParts returns the names of all parts of a model that is split over up to
// 1,000 files named <stem>-00001-of-000NN.gguf, in their order; for another name
// that name.
func SplitParts(name string) []string {
	var index, count int
	stem, numbers := name, ""
	if cut := len(name) - len("-00001-of-00002.gguf"); cut > 0 {
		stem, numbers = name[:cut], name[cut:]
	}
	_, err := fmt.Sscanf(numbers, "-%05d-of-%05d.gguf", &index, &count)
	if err != nil || index < 1 || index > count || count > maxParts || name != partOf(stem, index, count) {
		return []string{name}
	}
	parts := make([]string, count)
	for i := range parts {
		parts[i] = partOf(stem, i+1, count)
	}
	return parts
}

func partOf(stem string, index, count int) string {
	return fmt.Sprintf("%s-%05d-of-%05d.gguf", stem, index, count)
}

// hasVariant reports whether the name of a GGUF file names a quantisation as a
// whole word: between dots or dashes, in any case.
func hasVariant(name, variant string) bool {
	word := func(s string) string { return "-" + strings.ReplaceAll(strings.ToLower(s), ".", "-") + "-" }
	stem, ok := strings.CutSuffix(path.Base(name), ".gguf")
	return ok && strings.Contains(word(stem), word(variant))
}
