package examples_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	requirementsPage = "docs/requirements.md"
	leftOutPage      = "docs/decisions/0006-requirements-left-out.md"
)

// demands is what docs/requirements.md lists for one module.
type demands struct {
	module, prefix string   // prefix of its ids, as AUTH
	ids            []string // in the order of the page
	traps          []string
}

var (
	requirementID = regexp.MustCompile(`^([A-Z]+)-([1-9][0-9]*)$`)
	trapName      = regexp.MustCompile(`^Test[A-Z][A-Za-z0-9_]*$`)
)

// readDemands reads the page; faults are its own: cells that are no ids, repeats,
// rows without a text, ids of two kinds in one section.
func readDemands(page string) (out []demands, faults []string) {
	seen := map[string]bool{}
	for i, part := range strings.Split(page, "\n## ") {
		module, _, _ := strings.Cut(part, "\n")
		if i == 0 {
			continue
		}
		d := demands{module: module}
		for _, row := range section("\n## "+part, module) {
			first := row[0]
			m := requirementID.FindStringSubmatch(first)
			switch {
			case strings.HasPrefix(first, "---"), first == "id", first == "trap":
				continue
			case seen[module+first], len(row) != 2 || row[1] == "":
				faults = append(faults, module+": repeated, or without a text: "+first)
			case m != nil && (d.prefix == "" || d.prefix == m[1]):
				d.prefix, d.ids = m[1], append(d.ids, first)
			case trapName.MatchString(first):
				d.traps = append(d.traps, first)
			default:
				faults = append(faults, module+": neither an id nor a trap: "+first)
			}
			seen[module+first] = true
		}
		if len(d.ids) == 0 || len(d.traps) == 0 || seen["## "+d.prefix] {
			faults = append(faults, module+": no ids, no traps, or the prefix of another module")
		}
		seen["## "+d.prefix] = true
		out = append(out, d)
	}
	return out, faults
}

// readLeftOut reads the decision: by id, whether the whole of it is left out.
func readLeftOut(page string) (whole map[string]bool, faults []string) {
	whole = map[string]bool{}
	for line := range strings.Lines(page) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		id := strings.TrimSpace(cells[0])
		if !requirementID.MatchString(id) {
			continue
		}
		if _, twice := whole[id]; twice || len(cells) != 3 || strings.TrimSpace(cells[2]) == "" {
			faults = append(faults, "repeated, or without a reason: "+id)
			continue
		}
		whole[id] = strings.TrimSpace(cells[1]) == "the whole"
	}
	return whole, faults
}

// mentions finds ids in a text. "X-3 to X-6" names those of the list in between.
type mentions struct {
	one, span *regexp.Regexp
	ids       []string
}

func newMentions(d demands) mentions {
	const before, after = `(?:^|[^A-Za-z0-9-])`, `(?:[^0-9A-Za-z]|$)`
	id := d.prefix + `-([1-9][0-9]{0,2})` // GPU-12345678 begins the UUID of a device
	return mentions{
		one:  regexp.MustCompile(before + id + after),
		span: regexp.MustCompile(before + id + `\s+(?://\s*)?to\s+(?://\s*)?` + id + after),
		ids:  d.ids,
	}
}

func (m mentions) in(text, prefix string) map[string]bool {
	found := map[string]bool{}
	for rest := text; ; {
		at := m.one.FindStringSubmatchIndex(rest)
		if at == nil {
			break
		}
		found[prefix+"-"+rest[at[2]:at[3]]] = true
		rest = rest[at[3]:] // what ends one id may begin the next
	}
	for _, s := range m.span.FindAllStringSubmatch(text, -1) {
		from, _ := strconv.Atoi(s[1])
		to, _ := strconv.Atoi(s[2])
		for _, id := range m.ids {
			if n, err := strconv.Atoi(strings.TrimPrefix(id, prefix+"-")); err == nil && from < n && n < to {
				found[id] = true
			}
		}
	}
	return found
}

// isProof reports whether a function is one that go test runs.
func isProof(f *ast.FuncDecl) bool {
	return f.Recv == nil && f.Body != nil && slices.ContainsFunc([]string{"Test", "Fuzz", "Benchmark", "Example"}, func(kind string) bool {
		return strings.HasPrefix(f.Name.Name, kind)
	})
}

// proofs lists, by id or trap, where a module's demands are proven, and whatever
// its tests name that is not listed. Tests of examples may prove ids too.
func (d demands) proofs(w *workspace, files []*source) (where map[string][]string, unknown map[string]string) {
	where, unknown = map[string][]string{}, map[string]string{}
	m := newMentions(d)
	for _, s := range files {
		own := s.module == d.module || strings.HasPrefix(s.module, d.module+"/")
		if !s.test() || s.name == "examples/requirements_test.go" || !own && s.module != "examples" {
			continue
		}
		for id := range m.in(string(s.text), d.prefix) {
			if !slices.Contains(d.ids, id) {
				unknown[id] = s.name
			}
		}
		for _, decl := range s.ast.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || !isProof(f) {
				continue
			}
			if own && slices.Contains(d.traps, f.Name.Name) {
				where[f.Name.Name] = append(where[f.Name.Name], s.name)
			}
			from := f.Pos()
			if f.Doc != nil {
				from = f.Doc.Pos()
			}
			text := s.text[w.fset.Position(from).Offset:w.fset.Position(f.End()).Offset]
			for id := range m.in(string(text), d.prefix) {
				if !slices.Contains(d.ids, id) {
					continue
				}
				where[id] = append(where[id], s.name+": "+f.Name.Name)
			}
		}
	}
	return where, unknown
}

// TestRequirements proves of every listed requirement that a test names it, and of
// every id that a test names that it is listed. Whether the test would fail
// without the behaviour is for its reader to judge; -v says where to look.
func TestRequirements(t *testing.T) {
	w := loadWorkspace(t)
	list, faults := readDemands(document(t, requirementsPage))
	whole, more := readLeftOut(document(t, leftOutPage))
	for _, f := range append(faults, more...) {
		t.Error(f)
	}
	listed := map[string]bool{}
	for _, d := range list {
		if !slices.Contains(w.modules, d.module) {
			t.Errorf("%s has requirements and is no module", d.module)
		}
		where, unknown := d.proofs(w, w.files)
		for _, id := range slices.Concat(d.ids, d.traps) {
			listed[id] = true
			switch {
			case whole[id] && len(where[id]) > 0:
				t.Errorf("%s is left out and proven: %s", id, where[id][0])
			case !whole[id] && len(where[id]) == 0:
				t.Errorf("%s: no test of %s names it", id, d.module)
			case !whole[id]:
				t.Logf("%s  %s", id, strings.Join(where[id], ", "))
			}
		}
		for _, id := range slices.Sorted(maps.Keys(unknown)) {
			t.Errorf("%s names %s, which is not in %s", unknown[id], id, requirementsPage)
		}
	}
	for id := range whole {
		if !listed[id] {
			t.Errorf("%s is left out and not in %s", id, requirementsPage)
		}
	}
}

// TestRequirementsCanFail plants each fault that the gate is for.
func TestRequirementsCanFail(t *testing.T) {
	const good = "# R\n\n## m\n\n| id | what |\n|---|---|\n| AB-1 | x |\n| AB-2 | x |\n| AB-4 | x |\n\n| trap | what |\n|---|---|\n| TestTrap_X | x |\n"
	for row, want := range map[string]int{
		"":                       0,
		"| AB-1 | again |\n":     1,
		"| AB-9 | |\n":           1,
		"| CD-1 | foreign |\n":   1,
		"| TestTrap_X | twice\n": 1,
		"| something | else |\n": 1,
	} {
		if _, faults := readDemands(good + row); len(faults) != want {
			t.Errorf("a page with %q: %q, want %d faults", row, faults, want)
		}
	}
	if _, faults := readLeftOut("| AB-1 | the whole | why |\n| AB-1 | part | why |\n| AB-2 | part | |\n"); len(faults) != 2 {
		t.Errorf("a decision with a repeat and without a reason: %q", faults)
	}
	list, _ := readDemands(good)
	for code, want := range map[string][3]string{ // ids and traps proven, ids unknown
		"// AB-1, AB-2\nfunc TestA() {}":                         {"AB-1 AB-2", "", ""},
		"// AB-1 to\n// AB-4\nfunc TestA() {}":                   {"AB-1 AB-2 AB-4", "", ""},
		"func FuzzA() { _ = \"AB-2: text\" /* AB-4 */ }":         {"AB-2 AB-4", "", ""},
		"func TestA() { _ = \"AB-12 CAB-1 AB-1x ab-2 AB-4.\" }":  {"AB-4", "", "AB-12"},
		"// AB-1\nfunc helper() {}\n\n// AB-2\n\nfunc TestA(){}": {"", "", ""},
		"// AB-1\nfunc (T) TestA() {}":                           {"", "", ""},
		"// AB-3 in the air\nvar x int":                          {"", "", "AB-3"},
		"func TestTrap_X() {}":                                   {"", "TestTrap_X", ""},
		"func TestTrap_XY() {}":                                  {"", "", ""},
	} {
		w := &workspace{fset: token.NewFileSet()}
		s := &source{module: "m", dir: "m", name: "m/a_test.go", text: []byte("package m\n\n" + code + "\n")}
		var err error
		if s.ast, err = parser.ParseFile(w.fset, s.name, s.text, parser.ParseComments); err != nil {
			t.Fatal(err)
		}
		where, unknown := list[0].proofs(w, []*source{s})
		var got [3][]string
		for name := range where {
			i := 0
			if trapName.MatchString(name) {
				i = 1
			}
			got[i] = append(got[i], name)
		}
		got[2] = slices.Collect(maps.Keys(unknown))
		for i := range got {
			slices.Sort(got[i])
			if strings.Join(got[i], " ") != want[i] {
				t.Errorf("%q: found %q, want %q", code, got, want)
			}
		}
	}
}
