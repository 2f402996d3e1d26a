package auditcmd

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/llorch/llorch/audit"
	"github.com/llorch/llorch/audit/internal/logfile"
)

const pollEvery = 250 * time.Millisecond // of --follow

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
	var at logfile.Name
	off := int64(0)
	for {
		files, err := logfile.ReadDir(k.dir)
		if err != nil {
			return err
		}
		if len(files) == 0 && !k.follow {
			return fmt.Errorf("no log here: %w", fs.ErrNotExist)
		}
		for _, f := range files {
			switch c := f.Compare(at); {
			case c < 0:
				continue
			case c > 0:
				at, off = f.Name, 0
			}
			if off, err = k.file(ctx, f, off); err != nil {
				return fmt.Errorf("read %s: %w", f.Stored(), err)
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

// file prints the whole lines of a file from an offset, and returns the offset
// behind the last of them.
func (k *cat) file(ctx context.Context, f logfile.File, off int64) (int64, error) {
	h, err := k.dir.Open(f.Stored())
	if err != nil {
		return off, err
	}
	src, err := f.Reader(h)
	if err == nil {
		_, err = io.CopyN(io.Discard, src, off)
	}
	if err == nil {
		var n int64
		n, err = k.lines(ctx, src)
		off += n
	}
	return off, errors.Join(err, h.Close())
}

// lines prints the whole lines of src and returns how long they were.
func (k *cat) lines(ctx context.Context, src io.Reader) (n int64, err error) {
	for l, err := range logfile.Lines(src) {
		if err = errors.Join(err, ctx.Err()); err != nil {
			return n, err
		}
		if l.Raw[len(l.Raw)-1] != '\n' && l.Size <= logfile.MaxLine {
			break // it is being written
		}
		if err := k.print(l.Raw); err != nil {
			return n, err
		}
		n += l.Size
	}
	return n, nil
}

func (k *cat) print(stored []byte) error {
	r, err := audit.ParseRecord(stored)
	if err != nil {
		return err
	}
	if r.Seq < k.from {
		return nil
	}
	if k.json {
		_, err = k.out.Write(stored)
	} else {
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
		{":", e.Actor.ID}, {" reason=", e.Reason}, {" res=", strings.Trim(e.Resource.Kind+":"+e.Resource.ID, ":")}, {" cid=", e.Correlation},
	} {
		if p[1] != "" {
			b.WriteString(p[0] + k.text(p[1]))
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

// shown makes s safe for a terminal and leaves the escapes that it holds.
func shown(s string) string {
	parts := strings.Split(s, `\`)
	for i, p := range parts {
		parts[i] = audit.Escape(p)
	}
	return strings.Join(parts, `\`)
}
