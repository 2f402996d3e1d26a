package events_test

import (
	"encoding"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/llorch/llorch/audit"
	"github.com/llorch/llorch/audit/events"
)

// describe writes a type as the README's table does.
func describe(t audit.TypeInfo) string {
	var fields, needs, personal []string
	rt := reflect.TypeOf(t.Data)
	for field := range rt.Fields() {
		name, opt, _ := strings.Cut(field.Tag.Get("json"), ",")
		if opt == "omitzero" {
			name += "?"
		}
		fields = append(fields, name)
	}
	for need, set := range map[string]bool{"actor": t.Actor, "reason": t.Reason, "resource": t.Resource} {
		if set {
			needs = append(needs, need)
		}
	}
	slices.Sort(needs)
	personal = slices.Sorted(maps.Keys(t.Personal))
	return "| `" + t.Name + "` | " + strings.Join(fields, ", ") + " | " + strings.Join(needs, ", ") + " | " + t.Class.String() + " | " + strings.Join(personal, ", ") + " |"
}

func TestTypesAreInReadme(t *testing.T) { // AUD-2
	b, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, ti := range events.Types() {
		if want := strings.ReplaceAll(describe(ti), "|  |", "| |"); !strings.Contains(string(b), strings.ReplaceAll(want, "|  |", "| |")) {
			t.Errorf("README lacks %s", want)
		}
	}
}

func TestStructsFollowTheRules(t *testing.T) { // section 4.1
	for _, ti := range events.Types() {
		rt := reflect.TypeOf(ti.Data)
		var camel strings.Builder
		for w := range strings.FieldsFuncSeq(ti.Name, func(r rune) bool { return r == '.' || r == '_' }) {
			camel.WriteString(strings.ToUpper(w[:1]) + w[1:])
		}
		if rt.Name() != camel.String() {
			t.Errorf("%s is %s, want %s", ti.Name, rt.Name(), camel.String())
		}
		var names []string
		for field := range rt.Fields() {
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			names = append(names, name)
		}
		if !slices.IsSorted(names) {
			t.Errorf("%s: members %v are not in order", ti.Name, names)
		}
	}
	if _, err := audit.Open(t.Context(), audit.Config{Disabled: true, Types: events.Types()}); err != nil {
		t.Errorf("declarations: %v", err)
	}
}

func TestDigestText(t *testing.T) {
	var _ encoding.TextMarshaler = events.Digest{}
	var d events.Digest
	d[0], d[31] = 0xab, 1
	b, err := d.MarshalText()
	var back events.Digest
	if err != nil || back.UnmarshalText(b) != nil || back != d || len(b) != 64 {
		t.Errorf("text %s, back %v", b, back)
	}
	for _, s := range []string{"", "ab", strings.Repeat("g", 64), strings.Repeat("a", 66)} {
		if back.UnmarshalText([]byte(s)) == nil {
			t.Errorf("UnmarshalText(%q) = nil", s)
		}
	}
}

func FuzzDigest(f *testing.F) {
	f.Add([]byte(strings.Repeat("0a", 32)))
	f.Add([]byte("x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var d events.Digest
		if d.UnmarshalText(b) == nil {
			if again, err := d.MarshalText(); err != nil || !strings.EqualFold(string(again), string(b)) {
				t.Errorf("%q became %q", b, again)
			}
		}
	})
}
