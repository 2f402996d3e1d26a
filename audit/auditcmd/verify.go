package auditcmd

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/llorch/llorch/audit"
)

func (c *command) verify(ctx context.Context, args []string) error {
	require := c.flags.String("require", "chain", "")
	dir, err := c.parse(args)
	if err != nil {
		return err
	}
	var o audit.VerifyOptions
	switch *require {
	case "none":
	case "chain":
		o.Require = audit.AssuranceChain
	default:
		return fmt.Errorf("%w: --require takes none or chain", errUsage)
	}
	rep, err := audit.Verify(ctx, os.DirFS(dir), o)
	if err != nil {
		return err
	}
	if c.json {
		err = json.NewEncoder(c.stdout).Encode(rep)
	} else {
		err = printReport(c.stdout, rep)
	}
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	if !rep.OK {
		return errFindings
	}
	return nil
}

func printReport(w io.Writer, r *audit.Report) error {
	verdict := "OK"
	if !r.OK {
		verdict = "FAILED"
	}
	p := &printer{w: w}
	p.line("%s: %d records in %d files, %d bytes, %s", verdict, r.Records, r.Files, r.Bytes, r.Took.Round(time.Millisecond))
	p.line("assurance: %s%s", r.Assurance, meaning(r.Assurance))
	p.line("origin: %s", shown(r.Origin))
	if r.Records > 0 {
		p.line("seq %d to %d, head %s", r.FirstSeq, r.LastSeq, r.Head)
	}
	if r.LiveTail {
		p.line("the last line is being written")
	}
	if r.UncleanRuns > 0 {
		p.line("runs without audit.stopped, a running one included: %d", r.UncleanRuns)
	}
	for _, f := range r.Findings {
		p.line("%s", shown(f.String()))
	}
	if r.More > 0 {
		p.line("and %d more", r.More)
	}
	return p.err
}

func meaning(a audit.Assurance) string {
	if a == audit.AssuranceChain {
		return " (nothing is signed: proof against accident, not against somebody who recomputes the chain)"
	}
	return ""
}

// printer writes lines until one fails.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}
