package config

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// WriteReport writes every value with its source, as a table or, for --json, as
// one JSON document {"program","file","values":[{"key","value","source"}]}.
func (r *Resolved) WriteReport(w io.Writer) error {
	if r.JSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		return enc.Encode(struct {
			Program string   `json:"program"`
			File    string   `json:"file"`
			Values  []Origin `json:"values"`
		}{r.Program, r.File, slices.Collect(r.Explain())})
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "KEY\tVALUE\tSOURCE")
	for o := range r.Explain() {
		value := strings.Trim(fmt.Sprintf("%+q", o.Value), `"`)
		if value == "" {
			value = "-"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", o.Key, value, o.Source)
	}
	return t.Flush()
}
