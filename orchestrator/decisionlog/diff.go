package decisionlog

import (
	"context"
	"encoding/hex"
	"io"
	"maps"
	"slices"

	"github.com/llorch/llorch/orchestrator/internal/sched"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/queue"
)

// DiffReport says where another policy decides otherwise.
type DiffReport struct {
	Report
	Differ      int          // decisions with another worker, or none
	Differences []Difference // the first 1,000
}

// Difference is one decision that the other policy takes otherwise. Both
// explanations have their score tables.
type Difference struct {
	At       int64  // ns on the recorded clock
	Task     string // 32 hex digits
	Attempt  int
	Recorded placement.Explanation
	Other    placement.Explanation
}

// maxDifferences bounds what a report keeps.
const maxDifferences = 1000

// Diff replays a log and asks alt, before every recorded assignment, what it would
// have done on the recorded state; then it goes on with the recorded decision
// (ORC-133). Errors are those of [Replay]; a scorer that alt names and that is not
// here is ErrScorerMissing.
func Diff(ctx context.Context, r io.Reader, alt placement.Policy) (DiffReport, error) {
	return Player{}.Diff(ctx, r, alt)
}

// Diff is the function Diff with the scorers of p.
func (p Player) Diff(ctx context.Context, r io.Reader, alt placement.Policy) (DiffReport, error) {
	var out DiffReport
	if err := p.has(alt); err != nil {
		return out, err
	}
	p, alt = p.guard(alt)
	type decision struct {
		id      queue.ID
		attempt int
	}
	others := map[decision]placement.Explanation{} // of one step
	t := tape{p: p}
	t.watch = func(c sched.Choice) {
		others[decision{c.ID, c.Attempt}] = placement.Explain(c.View, c.Need, alt)
	}
	t.stepped = func(at sched.Instant, fx []sched.Effect) error {
		for _, f := range fx {
			a, ok := f.(sched.Assign)
			if !ok {
				continue
			}
			other := others[decision{a.ID, a.Attempt}]
			if other.Winner == a.Worker.Key.String() {
				continue
			}
			if out.Differ++; len(out.Differences) < maxDifferences {
				other.DecisionID, other.At, other.Attempt = a.Why.DecisionID, int64(at), a.Attempt
				out.Differences = append(out.Differences, Difference{int64(at), hex.EncodeToString(a.ID[:]), a.Attempt, a.Why, other})
			}
		}
		clear(others)
		return nil
	}
	err := t.play(ctx, r)
	out.Report = t.rep
	return out, err
}

// worst is what a scorer that panics says in a Diff.
const worst = 1 << 40

// guard gives the scorers of alt names of their own, and lets none of them panic:
// that would take it out of the recorded state.
func (p Player) guard(alt placement.Policy) (Player, placement.Policy) {
	if len(alt.Scorers) == 0 {
		return p, alt
	}
	all := maps.Clone(p.Scorers)
	alt.Scorers = slices.Clone(alt.Scorers)
	for i, s := range alt.Scorers {
		f := p.Scorers[s.Name]
		alt.Scorers[i].Name = "alt:" + s.Name
		all["alt:"+s.Name] = func(r placement.Request, w *placement.Worker) (value int64) {
			defer func() {
				if recover() != nil {
					value = worst
				}
			}()
			return f(r, w)
		}
	}
	return Player{Scorers: all}, alt
}
