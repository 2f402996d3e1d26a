package decisionlog

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"strconv"

	"github.com/llorch/llorch/orchestrator/internal/sched"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/queue"
)

// Report says what a replay went through.
type Report struct {
	Segments  int
	Unsealed  int    // segments without their last line: a crash cut them short
	Chained   int    // segments that began exactly where the one before ended
	Steps     int    // played and found equal
	Decisions int    // assignments among their effects
	Gaps      int    // places where the writer lost steps
	Lost      uint64 // steps that it lost there
	Skipped   int    // steps after a gap, before the next segment
	Torn      bool   // the last line was cut off and is not counted
}

// Player replays logs of an installation with custom scorers. The zero value
// knows none.
type Player struct {
	Scorers map[string]placement.Scorer
}

// Replay rebuilds the scheduler from a segment's first line, applies every event
// and compares the effects (ORC-132). r may be several segments one after the
// other, as cat gives them. It ends at the first difference with [*Diverged];
// also ErrCoreVersion, ErrScorerMissing, ErrBroken or the error of r or ctx, each
// with what was replayed until then.
func Replay(ctx context.Context, r io.Reader) (Report, error) { return Player{}.Replay(ctx, r) }

// Replay is the function Replay with the scorers of p.
func (p Player) Replay(ctx context.Context, r io.Reader) (Report, error) {
	t := tape{p: p}
	err := t.play(ctx, r)
	return t.rep, err
}

// tape is a replay under way.
type tape struct {
	p       Player
	rep     Report
	line    int
	core    *sched.Core // nil: before the first segment, or after a gap
	open    bool        // inside a segment
	sum     hash.Hash   // of the segment so far
	sealed  string      // SHA-256 of the segment before
	last    []byte      // its last state
	buf     []byte
	watch   func(sched.Choice)
	stepped func(at sched.Instant, fx []sched.Effect) error // nil: nobody
}

func (t *tape) play(ctx context.Context, r io.Reader) error {
	in := bufio.NewReaderSize(r, 256<<10)
	var buf []byte
	for {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		var err error
		buf, err = readLine(in, buf[:0])
		if errors.Is(err, io.EOF) {
			t.rep.Torn = len(buf) > 0
			t.end()
			return nil
		}
		t.line++
		if err == nil {
			err = t.one(buf)
		}
		if err != nil {
			if _, ok := errors.AsType[*Diverged](err); ok {
				return err
			}
			return fmt.Errorf("decisionlog: line %d: %w", t.line, err)
		}
	}
}

// readLine appends a line with its newline; io.EOF with what is left without one.
func readLine(in *bufio.Reader, buf []byte) ([]byte, error) {
	for {
		part, err := in.ReadSlice('\n')
		if buf = append(buf, part...); len(buf) > maxLine {
			return buf, ErrBroken
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return buf, err
		}
	}
}

// one plays a line.
func (t *tape) one(b []byte) error {
	l, ok := splitStep(b)
	if !ok && json.Unmarshal(b, &l) != nil {
		return ErrBroken
	}
	switch {
	case l.Format != 0:
		t.end()
		return t.begin(b)
	case !t.open:
		return ErrBroken
	case l.Sum != "":
		return t.seal(l.Sum)
	}
	t.sum.Write(b)
	switch {
	case l.Gap > 0:
		t.rep.Gaps++
		t.rep.Lost += l.Gap
		t.core = nil
	case t.core == nil:
		t.rep.Skipped++
	default:
		return t.step(l)
	}
	return nil
}

// splitStep takes the line of a step apart as appendStep wrote it. What it gives is
// checked where it is used: ev is decoded, fx compared.
func splitStep(b []byte) (l line, ok bool) {
	b, open := bytes.CutPrefix(b, []byte(`{"at":`))
	b, closed := bytes.CutSuffix(b, []byte("}\n"))
	at, b, hasAt := bytes.Cut(b, []byte(`,"ev":`))
	ev, fx, hasEv := bytes.Cut(b, []byte(`,"fx":`)) // never inside a JSON string: its quotes would be escaped
	n, err := strconv.ParseInt(string(at), 10, 64)
	return line{At: sched.Instant(n), Ev: ev, Fx: fx}, open && closed && hasAt && hasEv && err == nil
}

// begin rebuilds the core from a first line.
func (t *tape) begin(b []byte) error {
	var h header
	if err := json.Unmarshal(b, &h); err != nil {
		return ErrBroken
	}
	if h.Format != format || h.Core != sched.Version {
		return ErrCoreVersion
	}
	if h.Policy.Hash() != h.Hash {
		return ErrBroken
	}
	if err := t.p.has(h.Policy); err != nil {
		return err
	}
	if h.Prev != "" && t.last != nil && h.Prev == t.sealed {
		if !bytes.Equal(t.last, h.State) {
			return &Diverged{Line: t.line, Want: digest(h.State), Got: digest(t.last)}
		}
		t.rep.Chained++
	}
	h.Config.Scorers = t.p.Scorers
	core, err := sched.Restore(h.Config, h.State)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBroken, err)
	}
	core.Watch(t.watch)
	t.core, t.open, t.sum, t.last = core, true, sha256.New(), nil
	t.sum.Write(b)
	t.rep.Segments++
	return nil
}

// has reports ErrScorerMissing unless every scorer of a policy is here.
func (p Player) has(policy placement.Policy) error {
	for _, s := range policy.Scorers {
		if p.Scorers[s.Name] == nil {
			return ErrScorerMissing
		}
	}
	return nil
}

// step applies an event and compares.
func (t *tape) step(l line) error {
	e, err := sched.DecodeEvent(l.Ev)
	if err != nil {
		return ErrBroken
	}
	if change, ok := e.(sched.Policy); ok {
		if err := t.p.has(change.Policy); err != nil {
			return err
		}
	}
	fx := t.core.Step(l.At, e)
	if t.buf, err = appendEffects(t.buf[:0], fx); err != nil {
		return err
	}
	if !bytes.Equal(t.buf, l.Fx) {
		return diverged(t.line, l.Fx, t.buf)
	}
	t.rep.Steps++
	for _, f := range fx {
		if _, ok := f.(sched.Assign); ok {
			t.rep.Decisions++
		}
	}
	if t.stepped != nil {
		return t.stepped(l.At, fx)
	}
	return nil
}

// seal checks the digest of a segment and keeps its last state.
func (t *tape) seal(want string) error {
	if got := hex.EncodeToString(t.sum.Sum(nil)); got != want {
		return fmt.Errorf("%w: its SHA-256 is another one", ErrBroken)
	}
	t.open, t.sealed, t.last = false, want, nil
	if t.core == nil {
		return nil
	}
	var err error
	t.last, err = t.core.State()
	return err
}

// end closes a segment that has no last line.
func (t *tape) end() {
	if t.open {
		t.open, t.last = false, nil
		t.rep.Unsealed++
	}
}

// diverged finds the first effect that differs.
func diverged(at int, want, got []byte) *Diverged {
	var a, b []json.RawMessage
	if json.Unmarshal(want, &a) != nil || json.Unmarshal(got, &b) != nil {
		return &Diverged{Line: at, Want: string(want), Got: string(got)}
	}
	d := &Diverged{Line: at}
	for i := range max(len(a), len(b)) {
		var x, y json.RawMessage
		if i < len(a) {
			x = a[i]
		}
		if i < len(b) {
			y = b[i]
		}
		if !bytes.Equal(x, y) {
			d.Want, d.Got, d.Task = string(x), string(y), cmp.Or(taskOf(x), taskOf(y))
			break
		}
	}
	return d
}

// taskOf returns the task of a written effect, "" if it names none.
func taskOf(b []byte) string {
	var of map[string]struct{ ID queue.ID }
	if json.Unmarshal(b, &of) != nil {
		return ""
	}
	for _, v := range of {
		return hex.EncodeToString(v.ID[:])
	}
	return ""
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
