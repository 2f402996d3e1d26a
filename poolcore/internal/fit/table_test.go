package fit_test

import (
	"bytes"
	"encoding/json"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/llorch/llorch/poolcore/internal/fit"
)

func key(i int) fit.Key {
	return fit.Key{Model: "sha256:" + strconv.Itoa(i), Engine: "llamacpp", Version: "1.2", Ctx: 8192, Slots: 4, Device: "H200", Devices: 1}
}

func at(i int) time.Time { return time.Unix(int64(i), 0).UTC() }

// TestNeed (PCO-14, PCO-15): which number is binding, and one load is enough.
func TestNeed(t *testing.T) {
	var table fit.Table
	k := key(1)
	for _, c := range []struct {
		declared, estimated uint64
		want                fit.Need
	}{
		{0, 0, fit.Need{}},
		{1000, 0, fit.Need{Bytes: 1100, By: fit.ByDeclared}},
		{1000, 2000, fit.Need{Bytes: 2200, By: fit.ByEstimated}},
		{3000, 2000, fit.Need{Bytes: 3300, By: fit.ByDeclared}},
	} {
		if got := table.Need(k, c.declared, fit.Estimate{Bytes: c.estimated}); got != c.want {
			t.Errorf("Need(%d, %d) = %+v, want %+v", c.declared, c.estimated, got, c.want)
		}
	}
	table.Learn(k, 10000, 0, true, at(1))
	if got, want := table.Need(k, 1, fit.Estimate{Bytes: 1 << 40}), (fit.Need{Bytes: 10300 + 64*mib, By: fit.ByMeasured, Rough: true}); got != want {
		t.Errorf("after one load: %+v, want %+v", got, want)
	}
	for _, peak := range []uint64{20000, 1, 2, 3, 4} {
		table.Learn(k, peak, 0, false, at(2))
	}
	if got := table.Need(k, 0, fit.Estimate{}).Bytes; got != 20600+64*mib {
		t.Errorf("the maximum of the last 5: %d", got)
	}
	table.Learn(k, 5, 0, false, at(3))
	if got := table.Need(k, 0, fit.Estimate{}).Bytes; got > 100+64*mib {
		t.Errorf("the sixth last counts still: %d", got)
	}
	other := k
	other.KVType = "q8_0"
	if got := table.Need(other, 0, fit.Estimate{}); got.By != "" {
		t.Errorf("another combination has learned: %+v", got)
	}
}

// TestTableIsBounded (PCO-15): 1,024 entries, the oldest go.
func TestTableIsBounded(t *testing.T) {
	var table fit.Table
	for i := range 1100 {
		table.Learn(key(i), 1, 0, false, at(i))
	}
	if table.Len() != 1024 {
		t.Fatalf("%d entries", table.Len())
	}
	if table.Need(key(75), 0, fit.Estimate{}).By != "" || table.Need(key(76), 0, fit.Estimate{}).By != fit.ByMeasured {
		t.Error("not the oldest were dropped")
	}
	b, err := table.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := fit.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if c, _ := again.Encode(); !bytes.Equal(b, c) {
		t.Error("Parse(Encode) is another table")
	}
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{"", "{}", "[]", `{"schema":2}`, `{"schema":1,"entries":[{}]}`, `{"schema":1,"entries":[{"model":"m","engine":"e"}]}`, `{"schema":1,"entries":[{"model":"m","engine":"e","peaks":[1,2,3,4,5,6]}]}`} {
		if _, err := fit.Parse([]byte(text)); err == nil {
			t.Errorf("Parse(%s): no error", text)
		}
	}
}

func FuzzTable(f *testing.F) {
	f.Add([]byte(`{"schema":1,"entries":[{"model":"m","engine":"e","peaks":[7],"at":"2026-01-01T00:00:00Z"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		table, err := fit.Parse(b)
		if err != nil {
			return
		}
		once, err := table.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := fit.Parse(once)
		if err != nil {
			t.Fatalf("own output: %v", err)
		}
		if twice, _ := again.Encode(); !bytes.Equal(once, twice) || !json.Valid(once) {
			t.Error("not stable")
		}
	})
}

// loads runs a supervisor that tries whenever the need is free, against a model
// that really needs truth, and counts what ran out of memory.
func loads(table *fit.Table, k fit.Key, estimate, truth uint64, free []uint64) (ooms, served int) {
	for i, f := range free {
		need := table.Need(k, 0, fit.Estimate{Bytes: estimate})
		switch {
		case need.Bytes > f: // preflight refuses
		case truth > f:
			ooms++
			table.OutOfMemory(k, need.Bytes, f, at(i))
		default:
			served++
			table.Learn(k, truth, f, false, at(i))
		}
	}
	return ooms, served
}

// TestNoOOMLoop (PCO-16): at one level of free memory a model runs out of it at
// most once, however wrong the estimate; and it is not kept from memory that
// suffices.
func TestNoOOMLoop(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		truth := rapid.Uint64Range(1*gib, 100*gib).Draw(t, "truth")
		estimate := rapid.Uint64Range(1, truth).Draw(t, "estimate")
		level := rapid.Uint64Range(1*gib, truth).Draw(t, "level")
		var table fit.Table
		k := key(1)
		free := make([]uint64, 100)
		for i := range free {
			free[i] = level
		}
		if ooms, _ := loads(&table, k, estimate, truth, free); ooms > 1 {
			t.Fatalf("%d times out of memory at %d", ooms, level)
		}
		if _, served := loads(&table, k, estimate, truth, []uint64{2*truth + gib}); served != 1 {
			t.Fatalf("refused with twice what it needs: %+v", table.Need(k, 0, fit.Estimate{Bytes: estimate}))
		}
	})
}

// TestEstimatorWrongBy30Percent (PCO-14…PCO-16): too low by 30 % costs at most two
// failed loads while memory creeps up; too high by 30 % costs nothing once a load
// was possible.
func TestEstimatorWrongBy30Percent(t *testing.T) {
	for _, wrong := range []uint64{70, 130} {
		for truth := uint64(2 * gib); truth < 90*gib; truth += 7 * gib / 2 {
			var table fit.Table
			k := key(1)
			var creeping []uint64
			for f := truth / 2; f < truth*3/2; f += 64 * mib {
				creeping = append(creeping, f)
			}
			ooms, served := loads(&table, k, truth*wrong/100, truth, creeping)
			if most := map[uint64]int{70: 2, 130: 0}[wrong]; ooms > most || served == 0 {
				t.Errorf("estimate %d %% of %d: %d times out of memory, %d loads", wrong, truth, ooms, served)
			}
			if need := table.Need(k, 0, fit.Estimate{Bytes: truth * wrong / 100}); need.Bytes > truth*12/10+floorSlack {
				t.Errorf("after a load the need of %d is %+v", truth, need)
			}
		}
	}
}

const floorSlack = 1 * gib

// TestSuccessLowersTheFloor: what was enough once is not refused afterwards.
func TestSuccessLowersTheFloor(t *testing.T) {
	var table fit.Table
	k := key(1)
	table.OutOfMemory(k, 10*gib, 11*gib, at(1))
	if need := table.Need(k, 0, fit.Estimate{}); need.By != fit.ByFloor || need.Bytes != 11776*mib {
		t.Errorf("after an OOM: %+v", need)
	}
	table.Learn(k, 8*gib, 12*gib, false, at(2))
	table.Learn(k, 8*gib, 11*gib, false, at(3))
	if need := table.Need(k, 0, fit.Estimate{}); need.Bytes != 11*gib {
		t.Errorf("after a load with 11 GiB free: %+v", need)
	}
}
