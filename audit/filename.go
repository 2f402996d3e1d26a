package audit

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"
)

const (
	fileSuffix    = ".audit"
	gzipSuffix    = ".gz"     // a closed file that other tools have compressed
	sidecarSuffix = ".sha256" // digest of a closed file, for sha256sum -c
	maxFileNumber = 9999      // per day
	dayForm       = "2006-01-02"
)

// fileName is the name of a file of lines: its day and its number within it.
type fileName struct {
	day    string // YYYY-MM-DD
	number int    // absent in the name when 0
}

func (n fileName) String() string {
	if n.number == 0 {
		return n.day + fileSuffix
	}
	return n.day + "-" + strconv.Itoa(n.number) + fileSuffix
}

// compare orders by day, then by number; never by the bytes of the name.
func (n fileName) compare(o fileName) int {
	return cmp.Or(strings.Compare(n.day, o.day), cmp.Compare(n.number, o.number))
}

// parseFileName accepts exactly what String returns.
func parseFileName(s string) (fileName, error) {
	bad := fmt.Errorf("audit: not the name of a log file")
	base, ok := strings.CutSuffix(s, fileSuffix)
	if !ok || len(base) < len(dayForm) {
		return fileName{}, bad
	}
	n := fileName{day: base[:len(dayForm)]}
	if _, err := time.Parse(dayForm, n.day); err != nil {
		return fileName{}, bad
	}
	if rest := base[len(dayForm):]; rest != "" {
		num, err := strconv.Atoi(strings.TrimPrefix(rest, "-"))
		if err != nil || num < 1 || num > maxFileNumber {
			return fileName{}, bad
		}
		n.number = num
	}
	if n.String() != s {
		return fileName{}, bad
	}
	return n, nil
}

func dayOf(t time.Time) string { return t.UTC().Format(dayForm) }
