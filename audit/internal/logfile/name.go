// Package logfile knows the files of lines in a directory: their names, their
// order, and how to read them line by line.
package logfile

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	suffix     = ".audit"
	gzipSuffix = ".gz" // a closed file that other tools have compressed
	dayForm    = "2006-01-02"

	// Sidecar is the suffix of the digest of a closed file, for sha256sum -c.
	Sidecar = ".sha256"
	// MaxNumber is the highest number of a file within its day.
	MaxNumber = 9999
)

// Name is the name of a file of lines: its day and its number within it.
type Name struct {
	Day    string // YYYY-MM-DD, of UTC
	Number int    // absent in the name when 0
}

// Day is the day of a time.
func Day(t time.Time) string { return t.UTC().Format(dayForm) }

func (n Name) String() string {
	if n.Number == 0 {
		return n.Day + suffix
	}
	return fmt.Sprintf("%s-%d%s", n.Day, n.Number, suffix)
}

// Compare orders by day, then by number; never by the bytes of the name.
func (n Name) Compare(o Name) int {
	return cmp.Or(strings.Compare(n.Day, o.Day), cmp.Compare(n.Number, o.Number))
}

// ParseName accepts exactly what String returns.
func ParseName(s string) (Name, error) {
	base := strings.TrimSuffix(s, suffix)
	day := base[:min(len(base), len(dayForm))]
	number, _ := strconv.Atoi(strings.TrimPrefix(base[len(day):], "-")) // what is no number does not come back
	n := Name{Day: day, Number: number}
	if _, err := time.Parse(dayForm, day); err != nil || n.String() != s || number < 0 || number > MaxNumber {
		return Name{}, errors.New("audit: not the name of a log file")
	}
	return n, nil
}

// File is a file of lines in a directory.
type File struct {
	Name
	Size int64 // as stored, if the listing told
	Gzip bool
}

// Stored is the name that the file has on the disk.
func (f File) Stored() string {
	if f.Gzip {
		return f.String() + gzipSuffix
	}
	return f.String()
}

// ReadDir lists the regular files of lines in a directory in their order. Of a
// file and its compressed copy the plain one counts. It tells no sizes.
func ReadDir(dir fs.FS) ([]File, error) {
	entries, err := fs.ReadDir(dir, ".")
	var files []File
	for _, e := range entries {
		if f, ok := Parse(e.Name(), 0); ok && e.Type().IsRegular() {
			files = append(files, f)
		}
	}
	return Sort(files), err
}

// Parse picks a file of lines by the name of a regular file.
func Parse(stored string, size int64) (File, bool) {
	base, zipped := strings.CutSuffix(stored, gzipSuffix)
	n, err := ParseName(base)
	return File{Name: n, Size: size, Gzip: zipped}, err == nil
}

// Sort puts files in their order. Of a file and its compressed copy the plain
// one stays.
func Sort(files []File) []File {
	slices.SortFunc(files, func(a, b File) int {
		return cmp.Or(a.Compare(b.Name), strings.Compare(a.Stored(), b.Stored()))
	})
	return slices.CompactFunc(files, func(a, b File) bool { return a.Name == b.Name })
}
