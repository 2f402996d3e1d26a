package poolhttp

import (
	"net/http"
	"time"

	"github.com/llorch/llorch/poolregistry/nodeapi"
)

// Row is a row of the table of errors.
type Row struct {
	Code    string
	Status  int
	Retry   time.Duration
	Message string
}

// Table is the table of errors.
func Table() []Row {
	var out []Row
	for _, r := range table() {
		out = append(out, Row{r.code, r.status, r.retry, r.message})
	}
	return out
}

// Explain is what a caller is told of an error, and with which status.
func Explain(err error) (nodeapi.ErrorDetail, int) {
	d, r := explain(err)
	return d, r.status
}

// PreferredWait reads the Prefer fields.
func PreferredWait(h http.Header) (time.Duration, bool) { return preferredWait(h) }
