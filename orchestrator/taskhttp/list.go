package taskhttp

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/taskapi"
)

const (
	defaultList = 100
	// maxFilterText bounds the text of a filter: a model reference has at most 512 bytes.
	maxFilterText = 512
)

// list is GET /v2/tasks.
func (h *handler) list(c *call) error {
	f, err := readFilter(c.r.URL.RawQuery)
	if err != nil {
		return err
	}
	page := taskapi.TaskList{Tasks: []taskapi.Task{}}
	for t, err := range h.Orchestrator.Tasks(c.r.Context(), c.p, f) {
		if err != nil {
			return err
		}
		if page.Tasks = append(page.Tasks, taskView(t)); len(page.Tasks) == f.Limit {
			page.NextBefore = t.ID.String()
			break
		}
	}
	return c.json(http.StatusOK, page)
}

// readFilter reads the query of a list. Unknown names are ignored; a known one
// may stand once, and status may list several states with commas.
func readFilter(query string) (orchestrator.Filter, error) {
	f := orchestrator.Filter{Limit: defaultList}
	q, err := url.ParseQuery(query)
	if err != nil {
		return f, taskapi.InvalidField("query", "syntax")
	}
	for _, p := range []struct {
		name string
		read func(string) bool
	}{
		{"status", func(s string) bool { f.Status = strings.Split(s, ","); return knownStatuses(f.Status) }},
		{"model", func(s string) bool { f.Model = s; return len(s) <= maxFilterText }},
		{"session", func(s string) bool { f.Session = s; return len(s) <= maxFilterText }},
		{"since", func(s string) bool { return parse(&f.Since, s, rfc3339) }},
		{"before", func(s string) bool { return parse(&f.Before, s, store.ParseTaskID) }},
		{"limit", func(s string) bool {
			return parse(&f.Limit, s, strconv.Atoi) && f.Limit >= 1 && f.Limit <= taskapi.MaxList
		}},
	} {
		values := q[p.name]
		switch {
		case len(values) > 1:
			return f, taskapi.InvalidField(p.name, "repeated")
		case len(values) == 1 && (values[0] == "" || !p.read(values[0])):
			return f, taskapi.InvalidField(p.name, "syntax")
		}
	}
	return f, nil
}

func knownStatuses(list []string) bool {
	known := taskapi.Statuses()
	return len(list) <= len(known) && !slices.ContainsFunc(list, func(s string) bool { return !slices.Contains(known, s) })
}

func parse[T any](dst *T, s string, read func(string) (T, error)) bool {
	v, err := read(s)
	*dst = v
	return err == nil
}

func rfc3339(s string) (time.Time, error) { return time.Parse(time.RFC3339, s) }
