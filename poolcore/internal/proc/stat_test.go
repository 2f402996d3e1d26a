package proc_test

import (
	"strings"
	"testing"

	"github.com/llorch/llorch/poolcore/internal/proc"
)

const tail = " S 1 77 77 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 9 0 12345678901 1 2 3"

// TestProcStatWithSpacesInName (PCO-26): a name may hold blanks, brackets and line
// feeds, also ones that look like the rest of the line.
func TestProcStatWithSpacesInName(t *testing.T) {
	for _, name := range []string{"bash", "my engine", "a) R 9 9 9 0 0 0", ") (", "", "(((", "x\ny", "Web Content) S 1 2"} {
		s, err := proc.ParseStat([]byte("42 (" + name + ")" + tail + "\n"))
		want := proc.Stat{PID: 42, State: 'S', Parent: 1, Group: 77, Threads: 9, StartTicks: 12345678901}
		if err != nil || s != want {
			t.Errorf("ParseStat(%q) = %+v, %v", name, s, err)
		}
	}
}

func TestParseStatRefuses(t *testing.T) {
	for _, text := range []string{
		"", "42", "42 (x", "42 x) S", "(x) S 1", "42 (x)", "-1 (x)" + tail, "x (x)" + tail, "42(x)" + tail, "42 (x) SS" + tail[2:],
		"42 (x)" + strings.Replace(tail, "12345678901", "-1", 1), "42 (x)" + strings.Replace(tail, "77", "z", 1),
		"42 (x)" + tail + strings.Repeat(" 1", 5000),
	} {
		if s, err := proc.ParseStat([]byte(text)); err == nil {
			t.Errorf("ParseStat(%.40q) = %+v, want an error", text, s)
		}
	}
}

// TestStatEnded: a leader that ended before its threads is not over yet.
func TestStatEnded(t *testing.T) {
	for _, c := range []struct {
		state   byte
		threads int
		want    bool
	}{{'S', 1, false}, {'Z', 1, true}, {'X', 0, true}, {'Z', 4, false}, {'T', 1, false}} {
		if got := (proc.Stat{State: c.state, Threads: c.threads}).Ended(); got != c.want {
			t.Errorf("Ended(%c, %d threads) = %v", c.state, c.threads, got)
		}
	}
}

func FuzzProcStat(f *testing.F) {
	f.Add([]byte("42 (x)" + tail))
	f.Add([]byte("42 (a b) c)" + tail))
	f.Add([]byte(")("))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := proc.ParseStat(b)
		if err != nil {
			if s != (proc.Stat{}) {
				t.Errorf("an error with %+v", s)
			}
			return
		}
		// What stands before the last ')' changes nothing behind it.
		again, err := proc.ParseStat(append([]byte("7 (other name"), b[strings.LastIndexByte(string(b), ')'):]...))
		s.PID = 7
		if err != nil || again != s {
			t.Errorf("with another name: %+v, %v; want %+v", again, err, s)
		}
	})
}
