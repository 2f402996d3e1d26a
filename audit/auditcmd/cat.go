package auditcmd

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/llorch/llorch/audit"
)

const (
	maxLine   = 61440                  // longer ones are no records
	pollEvery = 250 * time.Millisecond // of --follow
)

// cat prints what the files hold, in their order; whether to believe it is for
// verify to say.
type cat struct {
	dir      fs.FS
	out      *bufio.Writer
	from     uint64
	follow   bool
	unescape bool
	json     bool
}

func (c *command) cat(ctx context.Context, args []string) error {
	k := &cat{out: bufio.NewWriter(c.stdout)}
	c.flags.Uint64Var(&k.from, "from", 0, "")
	c.flags.BoolVar(&k.follow, "follow", false, "")
	c.flags.BoolVar(&k.unescape, "unescape", false, "")
	dir, err := c.parse(args)
	if err != nil {
		return err
	}
	if c.json && k.unescape {
		return fmt.Errorf("%w: --unescape is for people, not with --json", errUsage)
	}
	k.dir, k.json = os.DirFS(dir), c.json
	return errors.Join(k.run(ctx), k.out.Flush())
}

// run prints every file to its end, and with follow goes on from there.
func (k *cat) run(ctx context.Context) error {
	name, off := "", int64(0)
	for {
		files, err := k.files()
		if err != nil {
			return err
		}
		if len(files) == 0 && !k.follow {
			return fmt.Errorf("no log here: %w", fs.ErrNotExist)
		}
		for _, f := range files {
			if c := compareFiles(f, name); c < 0 {
				continue
			} else if c > 0 {
				name, off = f, 0
			}
			if off, err = k.file(ctx, f, off); err != nil {
				return err
			}
		}
		if !k.follow {
			return nil
		}
		if err := k.out.Flush(); err != nil {
			return fmt.Errorf("write records: %w", err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pollEvery):
		}
	}
}

// files lists the files of lines in their order. Of a file and its compressed
// copy the plain one counts.
func (k *cat) files() ([]string, error) {
	entries, err := fs.ReadDir(k.dir, ".")
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		base := strings.TrimSuffix(e.Name(), ".gz")
		if _, _, ok := fileOrder(base); ok && e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(compareFiles(a, b), len(a)-len(b)) })
	return slices.CompactFunc(names, func(a, b string) bool { return compareFiles(a, b) == 0 }), nil
}

// fileOrder splits the name of a file into its day and its number.
func fileOrder(name string) (day string, number int, ok bool) {
	base, ok := strings.CutSuffix(name, ".audit")
	if !ok || len(base) < 10 {
		return "", 0, false
	}
	if _, err := time.Parse("2006-01-02", base[:10]); err != nil {
		return "", 0, false
	}
	if base[10:] != "" {
		n, err := strconv.Atoi(strings.TrimPrefix(base[10:], "-"))
		if err != nil || n < 1 {
			return "", 0, false
		}
		number = n
	}
	return base[:10], number, true
}

func compareFiles(a, b string) int {
	dayA, numA, _ := fileOrder(strings.TrimSuffix(a, ".gz"))
	dayB, numB, _ := fileOrder(strings.TrimSuffix(b, ".gz"))
	return cmp.Or(strings.Compare(dayA, dayB), cmp.Compare(numA, numB))
}

// file prints the whole lines of a file from an offset, and returns the offset
// behind the last of them.
func (k *cat) file(ctx context.Context, name string, off int64) (int64, error) {
	f, err := k.dir.Open(name)
	if err != nil {
		return off, err
	}
	var src io.Reader = f
	if strings.HasSuffix(name, ".gz") {
		if src, err = gzip.NewReader(f); err != nil {
			return off, errors.Join(fmt.Errorf("read %s: %w", name, err), f.Close())
		}
	}
	if off > 0 {
		_, err = io.CopyN(io.Discard, src, off)
	}
	lines := bufio.NewReaderSize(src, maxLine+1)
	for err == nil {
		var l []byte
		l, err = lines.ReadSlice('\n')
		if err == nil {
			off += int64(len(l))
			err = errors.Join(k.print(l), ctx.Err())
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if err != nil {
		err = fmt.Errorf("read %s: %w", name, err)
	}
	return off, errors.Join(err, f.Close())
}

func (k *cat) print(stored []byte) error {
	r, err := audit.ParseRecord(stored)
	if err != nil {
		return err
	}
	if r.Seq < k.from {
		return nil
	}
	switch {
	case k.json:
		_, err = k.out.Write(stored)
	default:
		_, err = k.out.WriteString(k.human(&r) + "\n")
	}
	return err
}

// human is a record in one line for people.
func (k *cat) human(r *audit.Record) string {
	e := &r.Event
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s %s %s %s", r.Seq, r.At.Format(time.RFC3339Nano), e.Type, e.Outcome, e.Actor.Kind)
	for _, p := range [][2]string{
		{"", e.Actor.ID}, {"reason", e.Reason}, {"res", strings.Trim(e.Resource.Kind+":"+e.Resource.ID, ":")}, {"cid", e.Correlation},
	} {
		switch {
		case p[1] == "":
		case p[0] == "":
			b.WriteString(":" + k.text(p[1]))
		default:
			b.WriteString(" " + p[0] + "=" + k.text(p[1]))
		}
	}
	if data, ok := e.Data.(json.RawMessage); ok && !bytes.Equal(data, []byte("{}")) {
		b.WriteString(" " + shown(string(data)))
	}
	return b.String()
}

// text shows a text of a record, save its payload, which stays JSON. Records
// come escaped; what somebody put into the file by hand is quoted here. With
// unescape the user asked for the raw bytes.
func (k *cat) text(s string) string {
	if k.unescape {
		if raw, err := audit.Unescape(s); err == nil {
			return raw
		}
	}
	return shown(s)
}

// shown makes s safe for a terminal.
func shown(s string) string {
	for _, r := range s {
		if !strconv.IsPrint(r) || r == '\uFFFD' {
			q := strconv.Quote(s)
			return q[1 : len(q)-1]
		}
	}
	return s
}
