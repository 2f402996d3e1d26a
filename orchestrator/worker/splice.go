package worker

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
)

// edit replaces one value of a JSON object.
type edit struct {
	at, length int // offset and bytes of the old value
	value      []byte
}

// member is one to add at the end of an object.
type member struct {
	name  string
	value []byte
}

// appendEdit adds an edit unless the value is already as it should be.
func appendEdit(edits []edit, at int, old json.RawMessage, value []byte) []edit {
	if bytes.Equal(old, value) {
		return edits
	}
	return append(edits, edit{at, len(old), value})
}

// apply returns raw with the edits made and the members added before the brace
// at end. Without any it returns raw itself.
func apply(raw []byte, edits []edit, end int, added []member) []byte {
	if len(edits) == 0 && len(added) == 0 {
		return raw
	}
	slices.SortFunc(edits, func(a, b edit) int { return cmp.Compare(a.at, b.at) })
	out := make([]byte, 0, len(raw)+256)
	last := 0
	for _, e := range edits {
		out = append(append(out, raw[last:e.at]...), e.value...)
		last = e.at + e.length
	}
	out = append(out, raw[last:end]...)
	for _, m := range added {
		if trimmed := bytes.TrimRight(out, " \t\r\n"); trimmed[len(trimmed)-1] != '{' {
			out = append(out, ',')
		}
		out = append(append(append(out, '"'), m.name...), `":`...)
		out = append(out, m.value...)
	}
	return append(out, raw[end:]...)
}
