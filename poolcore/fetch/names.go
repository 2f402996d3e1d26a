package fetch

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

// isPickle reports whether a name has an ending of Python's pickles, which run
// code when they are loaded.
func isPickle(name string) bool {
	return slices.Contains([]string{".bin", ".pt", ".pth", ".pkl", ".ckpt"}, strings.ToLower(path.Ext(name)))
}

// isRepositoryFile reports whether a reference to a whole repository takes the
// file. Folders inside hold other forms of the same model and are left out: no
// pattern matches a slash.
func isRepositoryFile(name string) bool {
	if isPickle(name) {
		return false
	}
	for _, pattern := range []string{"*.safetensors", "*.json", "tokenizer*", "*.model", "*.txt"} {
		if ok, _ := path.Match(pattern, name); ok {
			return true
		}
	}
	return false
}

// splitParts returns the names of all parts of a model that is split over files
// named <stem>-00001-of-000NN.gguf, in their order; for another name that name.
func splitParts(name string) []string {
	stem, count, ok := cutSplit(name)
	if !ok {
		return []string{name}
	}
	parts := make([]string, count)
	for i := range parts {
		parts[i] = fmt.Sprintf("%s-%05d-of-%05d.gguf", stem, i+1, count)
	}
	return parts
}

// maxParts bounds the parts of one model.
const maxParts = 1000

// cutSplit takes the numbers off the name of a part.
func cutSplit(name string) (stem string, count int, ok bool) {
	const tail = "-00001-of-00002.gguf"
	if len(name) <= len(tail) {
		return "", 0, false
	}
	stem, numbers := name[:len(name)-len(tail)], name[len(name)-len(tail):]
	index, err1 := strconv.ParseUint(numbers[1:6], 10, 32)
	n, err2 := strconv.ParseUint(numbers[10:15], 10, 32)
	if err1 != nil || err2 != nil || index < 1 || index > n || n > maxParts || fmt.Sprintf("-%05d-of-%05d.gguf", index, n) != numbers {
		return "", 0, false
	}
	return stem, int(n), true
}

// hasVariant reports whether the name of a GGUF file names a quantisation as a
// whole word: between dots or dashes, in any case.
func hasVariant(name, variant string) bool {
	word := func(s string) string { return "-" + strings.ReplaceAll(strings.ToLower(s), ".", "-") + "-" }
	stem, ok := strings.CutSuffix(path.Base(name), ".gguf")
	return ok && strings.Contains(word(stem), word(variant))
}
