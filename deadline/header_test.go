package deadline_test

import (
	"errors"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/deadline"
	"pgregory.net/rapid"
)

// newYear is the arrival of every table: it has no monotonic reading, so that
// results do not depend on when the test runs.
var newYear = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func rows(tb testing.TB, name string) [][]string {
	tb.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		tb.Fatal(err)
	}
	var out [][]string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSuffix(line, "\n"); !strings.HasPrefix(line, "#") {
			out = append(out, strings.Split(line, "\t"))
		}
	}
	return out
}

// DL-1, DL-2, DL-3: accepted and refused forms.
func TestForms(t *testing.T) {
	for _, table := range []struct {
		file, key, source string
		unit              time.Duration
	}{
		{"xdeadline.tsv", "X-Deadline", deadline.SourceDeadline, time.Millisecond},
		{"grpc.tsv", "Grpc-Timeout", deadline.SourceGRPC, time.Nanosecond},
		{"timeout.tsv", "X-Request-Timeout-Ms", deadline.SourceTimeout, time.Millisecond},
	} {
		for _, row := range rows(t, table.file) {
			value, accepted, want := row[0], row[1], row[2]
			d, err := deadline.FromHeader(http.Header{table.key: {value}}, newYear)
			if accepted == "no" {
				bad, ok := errors.AsType[*deadline.FormatError](err)
				if !ok || bad.Source != table.source || bad.Reason != want {
					t.Errorf("%s %q: error %v, want %q", table.key, value, err, want)
				}
				if len(value) > 1 && strings.Contains(bad.Error(), value) {
					t.Errorf("%s %q: the error repeats the value", table.key, value)
				}
				continue
			}
			n, _ := strconv.ParseInt(want, 10, 64)
			if got := int64(d.Time().Sub(newYear) / table.unit); err != nil || got != n {
				t.Errorf("%s %q = %d, %v, want %d", table.key, value, got, err, n)
			}
			if table.key == "X-Deadline" && d.Wire() != value {
				t.Errorf("%s %q travels on as %q", table.key, value, d.Wire())
			}
		}
	}
}

// DL-3: every text that grpc-go writes for a timeout is read as that timeout or,
// where it had to round, as less than one unit more.
func TestWhatGRPCWrites(t *testing.T) {
	units := map[byte]time.Duration{'n': 1, 'u': time.Microsecond, 'm': time.Millisecond, 'S': time.Second, 'M': time.Minute, 'H': time.Hour}
	table := rows(t, "grpc_encode.tsv")
	for _, row := range table {
		want, err := time.ParseDuration(row[0])
		if err != nil {
			t.Fatal(err)
		}
		d, err := deadline.FromHeader(http.Header{"Grpc-Timeout": {row[1]}}, newYear)
		got := d.Time().Sub(newYear)
		if more := got - max(want, 0); err != nil || more < 0 || more >= units[row[1][len(row[1])-1]] {
			t.Errorf("%s for %v is read as %v, %v", row[1], want, got, err)
		}
		if want <= 0 && !(got == 0 && !d.IsZero()) {
			t.Errorf("%s for %v is read as %v, want exhausted", row[1], want, got)
		}
	}
	if len(table) < 19 {
		t.Errorf("%d rows", len(table))
	}
}

// DL-7: a value of any length is judged by what it may be at most; a megabyte
// is not copied.
func TestLongValues(t *testing.T) {
	const size = 1 << 20
	for key, value := range map[string]string{
		"X-Deadline":           strings.Repeat("9", size),
		"X-Request-Timeout-Ms": strings.Repeat("0", size),
		"Grpc-Timeout":         strings.Repeat("1", size) + "S",
	} {
		h := http.Header{key: {value}}
		allocs := testing.AllocsPerRun(10, func() {
			if _, err := deadline.FromHeader(h, newYear); err == nil {
				t.Errorf("%s of a megabyte is accepted", key)
			}
		})
		if allocs > 1 { // the error
			t.Errorf("%s: %v allocations", key, allocs)
		}
	}
}

// DL-5: a field that is there twice is refused, even if both are equal.
func TestRepeatedField(t *testing.T) {
	for _, key := range []string{"X-Deadline", "X-Request-Timeout-Ms", "Grpc-Timeout"} {
		value := map[string]string{"X-Deadline": "1767225605000", "X-Request-Timeout-Ms": "5", "Grpc-Timeout": "5S"}[key]
		_, err := deadline.FromHeader(http.Header{key: {value, value}}, newYear)
		if bad, ok := errors.AsType[*deadline.FormatError](err); !ok || bad.Reason != "given twice" {
			t.Errorf("%s twice: %v", key, err)
		}
	}
}

// DL-6: the earliest statement wins, for any set of statements.
func TestEarliestWins(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h, want := http.Header{}, time.Duration(-1)
		state := func(key string, d time.Duration, text string) {
			if rapid.Bool().Draw(t, key) {
				h.Set(key, text)
				if want < 0 || d < want {
					want = d
				}
			}
		}
		abs, rel, grpc := rapid.Int64Range(0, 1e9).Draw(t, "abs"), rapid.Int64Range(0, 1e9).Draw(t, "rel"), rapid.Int64Range(0, 99999999).Draw(t, "grpc")
		state("X-Deadline", time.Duration(abs)*time.Millisecond, strconv.FormatInt(newYear.UnixMilli()+abs, 10))
		state("X-Request-Timeout-Ms", time.Duration(rel)*time.Millisecond, strconv.FormatInt(rel, 10))
		state("Grpc-Timeout", time.Duration(grpc)*time.Microsecond, strconv.FormatInt(grpc, 10)+"u")
		d, err := deadline.FromHeader(h, newYear)
		if err != nil {
			t.Fatal(err)
		}
		if d.IsZero() != (want < 0) || want >= 0 && d.Time().Sub(newYear) != want {
			t.Fatalf("FromHeader(%v) = %v, want %v", h, d.Time().Sub(newYear), want)
		}
		if text := h.Get("X-Deadline"); text != "" && d.Wire() != text {
			t.Fatalf("X-Deadline %s travels on as %s", text, d.Wire())
		}
	})
}

// The RFC 3339 form means what time.Parse says on everything it accepts.
func TestRFC3339EqualsTimeParse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		zone := time.FixedZone("", 60*rapid.IntRange(-23*60-59, 23*60+59).Draw(t, "offset"))
		at := time.Unix(rapid.Int64Range(0, 4e9).Draw(t, "s"), rapid.Int64Range(0, 999999999).Draw(t, "ns")).In(zone)
		text := at.Format(time.RFC3339Nano)
		d, err := deadline.FromHeader(http.Header{"X-Deadline": {text}}, newYear)
		if err != nil || !d.Time().Equal(at) {
			t.Fatalf("%q = %v, %v, want %v", text, d.Time(), err, at)
		}
	})
}

// DL-9, DL-10, DL-11: what the next hop gets.
func TestInject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stale := func() http.Header {
			return http.Header{"X-Deadline": {"1"}, "X-Request-Timeout-Ms": {"2"}, "Grpc-Timeout": {"3S"}, "Accept": {"*/*"}}
		}
		h := stale()
		if err := deadline.Inject(t.Context(), h, 0); err != nil || len(h) != 1 || h.Get("Accept") == "" {
			t.Errorf("without deadline: %v, %v", h, err)
		}

		in, err := deadline.FromHeader(http.Header{"X-Deadline": {time.Now().Add(time.Minute).Format(time.RFC3339Nano)}}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := deadline.With(t.Context(), in)
		defer cancel()
		h = stale()
		if err := deadline.Inject(ctx, h, 250*time.Millisecond); err != nil {
			t.Fatal(err)
		}
		if h.Get("X-Deadline") != in.Wire() || h.Get("X-Request-Timeout-Ms") != "59750" || h.Get("Grpc-Timeout") != "" {
			t.Errorf("injected %v", h)
		}

		// DL-11: exactly 1 ms after the margin still goes out, less does not.
		if err := deadline.Inject(ctx, h, time.Minute-time.Millisecond); err != nil || h.Get("X-Request-Timeout-Ms") != "1" {
			t.Errorf("1 ms left: %v, %v", h, err)
		}
		err = deadline.Inject(ctx, h, time.Minute-time.Millisecond+1)
		if e, ok := errors.AsType[*deadline.Exceeded](err); !ok || e.Stage != deadline.StageDispatch || e.Budget != time.Minute || len(h) != 1 {
			t.Errorf("999999 ns left: %v, %v", h, err)
		}
		// DL-10: rounded down, both forms, never up.
		time.Sleep(time.Nanosecond)
		if err := deadline.Inject(ctx, h, 0); err != nil || h.Get("X-Request-Timeout-Ms") != "59999" {
			t.Errorf("1 ns less than a minute: %v, %v", h, err)
		}
		odd, cancel := deadline.With(t.Context(), deadline.After(7*24*365*time.Hour+1500*time.Microsecond-1))
		defer cancel()
		if err := deadline.Inject(odd, h, 0); err != nil || h.Get("X-Request-Timeout-Ms") != "9999999999" || !strings.HasSuffix(h.Get("X-Deadline"), "001") {
			t.Errorf("seven years and 1.5 ms: %v, %v", h, err)
		}
		h = stale()

		short, cancel := deadline.With(ctx, deadline.After(time.Second))
		defer cancel()
		if err := deadline.Inject(short, h, -time.Hour); err != nil || h.Get("X-Deadline") != in.Wire() || h.Get("X-Request-Timeout-Ms") != "1000" {
			t.Errorf("a shorter context: %v, %v", h, err)
		}

		err = deadline.Inject(short, h, time.Second)
		e, ok := errors.AsType[*deadline.Exceeded](err)
		if !ok || e.Stage != deadline.StageDispatch || len(h) != 1 {
			t.Errorf("nothing left: %v, %v", err, h)
		}
	})
}

// Unix milliseconds, rounded down, or RFC 3339 where they would look like
// seconds; both are forms that the next hop accepts.
func TestWire(t *testing.T) {
	for at, want := range map[time.Time]string{
		time.Now().Add(time.Hour):                   strconv.FormatInt(time.Now().Add(time.Hour).UnixMilli(), 10)[:6],
		time.Unix(1_000_000_000, 0):                 "1000000000000",
		time.Unix(999_999_999, 999_999_000):         "2001-09-09T01:46:39.999Z",
		time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC): "1999-01-01T00:00:00.000Z",
		{}: "",
	} {
		d := deadline.At(at)
		if !strings.HasPrefix(d.Wire(), want) || want == "" && d.Wire() != "" {
			t.Errorf("At(%v).Wire() = %q, want %q", at, d.Wire(), want)
		}
		back, err := deadline.FromHeader(http.Header{"X-Deadline": {d.Wire()}}, newYear)
		if want != "" && (err != nil || d.Time().Sub(back.Time()).Abs() > time.Second) {
			t.Errorf("%q is read back as %v, %v", d.Wire(), back.Time(), err)
		}
	}
}

// DL-10: a budget that began as a relative one gets one absolute form, and all
// later hops repeat it.
func TestRelativeBecomesAbsoluteOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		h := http.Header{"X-Request-Timeout-Ms": {"5000"}}
		for range 3 {
			d, err := deadline.FromHeader(h, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := deadline.With(t.Context(), d)
			time.Sleep(700 * time.Millisecond)
			if err := deadline.Inject(ctx, h, time.Millisecond); err != nil {
				t.Fatal(err)
			}
			cancel()
			if want := deadline.At(start.Add(5 * time.Second)).Wire(); h.Get("X-Deadline") != want {
				t.Errorf("X-Deadline %s, want %s", h.Get("X-Deadline"), want)
			}
		}
	})
}

// Along a chain of hops the time left never grows, and a hop loses at most its
// margin, 1 ms of rounding and what its clock is ahead of the first one.
func TestChain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bubble := struct{ rapid.TB }{t} // hides Deadline, which panics in a bubble
		rapid.Check(bubble, func(rt *rapid.T) {
			h := http.Header{"X-Request-Timeout-Ms": {"600000"}}
			left := 10 * time.Minute
			var origin time.Duration // skew of the hop that wrote the absolute form
			for hop := range rapid.IntRange(1, 8).Draw(rt, "hops") {
				skew := time.Duration(rapid.IntRange(-10000, 10000).Draw(rt, "skew")) * time.Millisecond
				if hop == 0 {
					origin = skew
				}
				shift(h, -skew) // how a clock that is ahead sees it
				d, err := deadline.FromHeader(h, time.Now())
				if err != nil {
					rt.Fatal(err)
				}
				got := d.Remaining()
				if loss := left - got; hop > 0 && (loss < 0 || loss > time.Millisecond+max(skew-origin, 0)) {
					rt.Fatalf("hop %d: %v became %v with skew %v", hop, left, got, skew)
				}
				ctx, cancel := deadline.With(t.Context(), d)
				defer cancel()
				time.Sleep(time.Duration(rapid.IntRange(0, 1e8).Draw(rt, "work")))
				margin := time.Duration(rapid.IntRange(0, 1e8).Draw(rt, "margin"))
				left = d.Remaining() - margin
				if err := deadline.Inject(ctx, h, margin); err != nil {
					rt.Fatal(err)
				}
				shift(h, skew)
			}
		})
	})
}

// shift moves an absolute statement.
func shift(h http.Header, by time.Duration) {
	if at, err := time.Parse(time.RFC3339Nano, h.Get("X-Deadline")); err == nil {
		h.Set("X-Deadline", at.Add(by).Format(time.RFC3339Nano))
	}
}
