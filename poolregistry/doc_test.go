package poolregistry_test

import (
	"errors"
	"go/doc/comment"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	. "github.com/llorch/llorch/poolregistry"
)

// §4.2: the package comment and the page of the repository show the two tables of
// the code, row by row. The model test takes its moves from the same tables.
func TestTransitionsAreDocumented(t *testing.T) {
	src, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	text := regexp.MustCompile(`(?m)^// ?`).ReplaceAllString(string(src), "")
	var p comment.Parser
	var tables [][][3]string
	for _, block := range p.Parse(text).Content {
		code, ok := block.(*comment.Code)
		if !ok || !strings.HasPrefix(code.Text, "from ") {
			continue
		}
		var rows [][3]string
		for line := range strings.Lines(code.Text) {
			if f := strings.Fields(line); len(f) == 3 && f[0] != "from" {
				rows = append(rows, [3]string(f))
			}
		}
		tables = append(tables, rows)
	}
	want := [][][3]string{Transitions(), Scheduling()}
	if !slices.EqualFunc(tables, want, slices.Equal) {
		t.Errorf("documented:\n%v\ncode:\n%v", tables, want)
	}
	page, err := os.ReadFile("../docs/state-machines.md")
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("the module stands alone: no page to compare with")
	}
	if err != nil {
		t.Fatal(err)
	}
	for i, heading := range []string{"## Node\n", "## Schedule\n"} {
		if got := pageTable(string(page), heading); !slices.Equal(got, want[i]) {
			t.Errorf("%s the page says\n%v\nthe code\n%v", heading, got, want[i])
		}
	}
}

// pageTable returns the rows of three cells below a heading.
func pageTable(page, heading string) (rows [][3]string) {
	_, below, _ := strings.Cut(page, heading)
	below, _, _ = strings.Cut(below, "\n## ")
	row := regexp.MustCompile(`(?m)^\| ([a-z-]+) \| ([a-z]+) \| ([a-z]+) \|$`)
	for _, m := range row.FindAllStringSubmatch(below, -1) {
		if m[1] != "from" {
			rows = append(rows, [3]string(m[1:]))
		}
	}
	return rows
}
