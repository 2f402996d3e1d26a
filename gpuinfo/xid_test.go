package gpuinfo_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/llorch/llorch/gpuinfo"
)

// xidTable is the table of the requirement (GPU-23), dated 2025-10; the codes that
// it does not list are for contact, 45 and 154 are judged by the tracker (GPU-24).
func xidTable() map[gpuinfo.Action]string {
	return map[gpuinfo.Action]string{
		"":                 "14 37 38 43 44 63 66 67 92 93 106–108 121 137 141 152 153 157 160–165",
		gpuinfo.RestartApp: "8 11 13 25 31 32 39–41 60 68–72 75–77 80 82–86 88 89 94 96–105 126–135 139",
		gpuinfo.DrainReset: "48 74 144–150",
		gpuinfo.Reset:      "46 62 64 95 109 110 119 120 136 140 143 155 156 158",
		gpuinfo.Reboot:     "79 151",
		gpuinfo.Contact:    "54 78 159 166–172",
	}
}

func expand(t *testing.T, list string) (codes []int) {
	t.Helper()
	for f := range strings.FieldsSeq(list) {
		low, high, isRange := strings.Cut(f, "–")
		if !isRange {
			high = low
		}
		a, err1 := strconv.Atoi(low)
		b, err2 := strconv.Atoi(high)
		if err1 != nil || err2 != nil {
			t.Fatalf("%q is not a code", f)
		}
		for c := a; c <= b; c++ {
			codes = append(codes, c)
		}
	}
	return codes
}

// TestXIDTable (GPU-23): every code from −1 to 1000 has the action of the table.
func TestXIDTable(t *testing.T) {
	want := map[int]gpuinfo.Action{45: gpuinfo.RestartApp, 154: ""}
	for action, list := range xidTable() {
		for _, code := range expand(t, list) {
			if _, twice := want[code]; twice {
				t.Errorf("%d stands twice in the table", code)
			}
			want[code] = action
		}
	}
	if len(want) != 110 {
		t.Errorf("%d codes in the table", len(want))
	}
	for code := -1; code <= 1000; code++ {
		action, listed := want[code]
		if !listed {
			action = gpuinfo.Contact
		}
		if _, got := gpuinfo.LookupXID(code); got != action {
			t.Errorf("LookupXID(%d) = %q, want %q", code, got, action)
		}
	}
}

// TestTrap_XIDListContradictsCatalogue: a list that calls 94 fatal and ignores 109
// drains cards that work and keeps cards that do not (GPU-23).
func TestTrap_XIDListContradictsCatalogue(t *testing.T) {
	if _, a := gpuinfo.LookupXID(94); a != gpuinfo.RestartApp {
		t.Errorf("94, a contained error: %q", a)
	}
	if _, a := gpuinfo.LookupXID(109); a != gpuinfo.Reset {
		t.Errorf("109, a context switch timeout: %q", a)
	}
}

func ExampleLookupXID() {
	name, action := gpuinfo.LookupXID(79)
	fmt.Println(name, action)
	_, action = gpuinfo.LookupXID(4711)
	fmt.Println(action)
	// Output:
	// GPU has fallen off the bus reboot
	// contact
}
