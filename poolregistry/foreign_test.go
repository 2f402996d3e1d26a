package poolregistry_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	. "github.com/llorch/llorch/poolregistry"
)

// What other leases and memberships learned, retold as scripts: the cases of a
// lease that is judged by when its holder was observed (client-go
// leaderelection), and the message orders of a gossip membership (memberlist
// state tests). Instance 1 and 2 are two processes that both want id "a"; "reg"
// presents the newest token that this instance was given. After "=" stands the
// refusal, or the liveness and the epoch of the node.
func TestForeignLeaseCases(t *testing.T) {
	for _, c := range []struct{ name, script string }{
		// Observed time.
		{"nobody holds it", "reg 1 = registering 1"},
		{"held, and renewed just now", "reg 1; beat 1; sleep 29s; beat 1; reg 2 = NODE_ID_TAKEN"},
		{"held, its own clock says long ago", "reg 1; beat 1 -1000h; reg 2 = NODE_ID_TAKEN"},
		{"held, its own clock says next year, observed silent", "reg 1; beat 1 9000h; sleep 30s; reg 2 = registering 2"},
		{"held, not renewed, not yet expired", "reg 1; beat 1; sleep 29999ms; reg 2 = NODE_ID_TAKEN"},
		{"held, not renewed since it was observed", "reg 1; beat 1; sleep 30s; reg 2 = registering 2"},
		{"renewed by its holder", "reg 1; beat 1; sleep 5s; reg 1 = online 1"},
		{"renewed after it had expired and nobody took it", "reg 1; beat 1; sleep 1m; beat 1 = online 2"},
		{"released by its holder", "reg 1; beat 1; leave 1; reg 2 = registering 2"},
		{"renewed after somebody took it", "reg 1; beat 1; sleep 30s; reg 2; beat 1 = LEASE_FENCED"},
		{"taken back only after the other is silent", "reg 1; beat 1; sleep 30s; reg 2; beat 2; reg 1 = NODE_ID_TAKEN"},
		{"and then it is", "reg 1; beat 1; sleep 30s; reg 2; beat 2; sleep 30s; reg 1 = registering 3"},
		// Membership.
		{"alive, for the first time", "reg 1; beat 1 = online 1"},
		{"alive again with an old number changes nothing", "reg 1; beat 1; sleep 15s; again 1 = BEAT_REPLAYED"},
		{"and the suspicion stays", "reg 1; beat 1; sleep 15s; again 1; look = suspect 1"},
		{"a suspect refutes by a newer number", "reg 1; beat 1; sleep 15s; beat 1 = online 1"},
		{"a refused node refutes too", "reg 1; beat 1; refused; beat 1 = online 1"},
		{"suspicion of somebody unknown", "refused; beat 1 = NODE_UNKNOWN"},
		{"suspicion twice is one suspicion", "reg 1; beat 1; sleep 15s; refused; sleep 14s; look = suspect 1"},
		{"suspicion of the dead changes nothing", "reg 1; beat 1; sleep 1m; refused; look = offline 1"},
		{"the dead stay dead without a sign of life", "reg 1; beat 1; sleep 1m; sleep 30m; look = offline 1"},
		{"the dead return under a larger number", "reg 1; beat 1; sleep 1m; beat 1 = online 2"},
		{"a leave that is repeated", "reg 1; beat 1; leave 1; leave 1 = NODE_UNKNOWN"},
		{"a leave of the incarnation before", "reg 1; beat 1; sleep 30s; reg 2; leave 1 = LEASE_FENCED"},
		{"a name conflict keeps who was first", "reg 1; beat 1; reg 2; look = online 1"},
		{"a dead name is reclaimed", "reg 1; beat 1; sleep 1m; reg 2; beat 2 = online 2"},
		{"a beat that was overtaken by the leave", "reg 1; beat 1; leave 1; beat 1 = NODE_UNKNOWN"},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, Config{RestartGrace: -1}, func(_ *testing.T, w *world) {
				f := &foreign{w: w, tokens: map[string]string{}, seqs: map[string]uint64{}}
				script, want, _ := strings.Cut(c.script, " = ")
				var err error
				for step := range strings.SplitSeq(script, "; ") {
					err = f.step(strings.Fields(step))
				}
				got := ""
				if err != nil {
					got = strings.SplitN(err.Error(), ":", 2)[0]
				} else {
					n := w.node("a")
					got = fmt.Sprint(n.Liveness, " ", n.Epoch)
				}
				if got != want {
					t.Errorf("%s\ngot %s, want %s", c.script, got, want)
				}
			})
		})
	}
}

type foreign struct {
	w      *world
	tokens map[string]string
	seqs   map[string]uint64
}

// step runs one step of a script.
func (f *foreign) step(words []string) error {
	ctx := f.w.t.Context()
	who := ""
	if len(words) > 1 {
		who = words[1]
	}
	switch words[0] {
	case "sleep":
		d, err := time.ParseDuration(who)
		f.w.must(err)
		time.Sleep(d)
	case "refused":
		f.w.Refused("a")
	case "reg":
		r := other("a", int(who[0]-'0'), f.tokens[who])
		g, err := f.w.Register(ctx, r)
		if err == nil {
			f.tokens[who] = g.LeaseToken
		}
		return err
	case "leave":
		return f.w.Leave(ctx, "a", f.tokens[who])
	case "beat", "again":
		if words[0] == "beat" {
			f.seqs[who]++
		}
		b := Beat{NodeID: "a", LeaseToken: f.tokens[who], Seq: f.seqs[who], Pools: pool()}
		if len(words) > 2 {
			d, err := time.ParseDuration(words[2])
			f.w.must(err)
			b.Timestamp = time.Now().Add(d)
		}
		_, err := f.w.Beat(ctx, b)
		return err
	}
	return nil
}
