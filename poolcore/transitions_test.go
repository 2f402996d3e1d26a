package poolcore

import (
	"os"
	"slices"
	"strings"
	"sync"
)

// A transition is one row of a table of the package comment: of a worker by an
// event, or of a pool. "" is a place without a worker.
type transition struct {
	from  []string
	event string
	to    []string
}

// tables are those of workers and of pools. What is said of ready workers holds for
// busy ones too, except for the event "work".
var tables = sync.OnceValue(func() [2][]transition {
	comment, err := os.ReadFile("doc.go")
	if err != nil {
		panic(err)
	}
	var out [2][]transition
	for i, table := range commentTables(string(comment)) {
		for _, row := range table {
			cells := strings.Split(row, "|")
			t := transition{from: list(cells[0]), to: list(cells[len(cells)-1])}
			if len(cells) == 3 {
				t.event = cells[1]
			}
			out[i] = append(out[i], t)
		}
	}
	return out
})

func workerTransitions() []transition { return tables()[0] }

func poolTransitions() []transition { return tables()[1] }

func list(cell string) []string {
	words := strings.Split(cell, ", ")
	for i := range words {
		if words[i] == "–" {
			words[i] = idle
		}
	}
	return words
}

func workerMoves(from, event, to string) bool { return moves(workerTransitions(), from, event, to) }

func poolMoves(from, to string) bool { return moves(poolTransitions(), from, "", to) }

func moves(table []transition, from, event, to string) bool {
	return slices.ContainsFunc(table, func(r transition) bool {
		return r.event == event && slices.Contains(r.from, from) && slices.Contains(r.to, to)
	})
}

// commentTables returns the indented tables of a comment, without their headings.
func commentTables(text string) (tables [][]string) {
	inside := false
	for line := range strings.Lines(text) {
		row, ok := strings.CutPrefix(strings.TrimRight(line, "\n"), "//\t")
		switch {
		case !ok:
			inside = false
		case !inside:
			inside = true
			tables = append(tables, nil)
		default:
			var cells []string
			for cell := range strings.SplitSeq(row, "  ") {
				if cell = strings.TrimSpace(cell); cell != "" {
					cells = append(cells, cell)
				}
			}
			tables[len(tables)-1] = append(tables[len(tables)-1], strings.Join(cells, "|"))
		}
	}
	return tables
}

// pageTable returns the first table below a heading.
func pageTable(page, heading string) (rows []string) {
	_, text, _ := strings.Cut(page, "\n## "+heading+"\n")
	_, text, _ = strings.Cut(text, "|---|")
	_, text, _ = strings.Cut(text, "\n")
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "|") {
			break
		}
		var cells []string
		for cell := range strings.SplitSeq(strings.Trim(strings.TrimSpace(line), "|"), "|") {
			cells = append(cells, strings.TrimSpace(cell))
		}
		rows = append(rows, strings.Join(cells, "|"))
	}
	return rows
}
