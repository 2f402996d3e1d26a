package auditcmd

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
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
	var out strings.Builder
	if c.json {
		err = json.NewEncoder(&out).Encode(rep)
	} else {
		writeReport(&out, rep)
	}
	if err == nil {
		_, err = io.WriteString(c.stdout, out.String())
	}
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	if !rep.OK {
		return errFindings
	}
	return nil
}

func writeReport(b *strings.Builder, r *audit.Report) {
	verdict := "OK"
	if !r.OK {
		verdict = "FAILED"
	}
	line := func(format string, args ...any) { fmt.Fprintf(b, format+"\n", args...) }
	line("%s: %d records in %d files, %d bytes, %s", verdict, r.Records, r.Files, r.Bytes, r.Took.Round(time.Millisecond))
	line("assurance: %s%s", r.Assurance, meaning(r.Assurance))
	line("origin: %s", shown(r.Origin))
	if r.Records > 0 {
		line("seq %d to %d, head %s", r.FirstSeq, r.LastSeq, r.Head)
	}
	if r.LiveTail {
		line("the last line is being written")
	}
	if r.UncleanRuns > 0 {
		line("runs without audit.stopped, a running one included: %d", r.UncleanRuns)
	}
	for _, f := range r.Findings {
		line("%s", shown(f.String()))
	}
	if r.More > 0 {
		line("and %d more", r.More)
	}
}

func meaning(a audit.Assurance) string {
	if a == audit.AssuranceChain {
		return " (nothing is signed: proof against accident, not against somebody who recomputes the chain)"
	}
	return ""
}
