package fetch_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/llorch/llorch/poolcore/fetch"
)

func epoch() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }

// TestRetriesModel compares the decision about the next try (PCO-69) with a model
// that keeps the whole history.
func TestRetriesModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r fetch.Retries
		failures, received := 0, int64(0)
		for range rapid.IntRange(1, 40).Draw(t, "events") {
			if rapid.Bool().Draw(t, "bytes") {
				n := rapid.Int64Range(0, 20<<20).Draw(t, "n")
				r.Received(n)
				if received += n; received >= 16<<20 {
					failures, received = 0, 0
				}
				continue
			}
			after := time.Duration(rapid.IntRange(0, 1000).Draw(t, "after")) * time.Second
			jitter := rapid.Float64Range(-1, 1).Draw(t, "jitter")
			pause, again := r.Failed(after, jitter)
			failures++
			if again != (failures < 5) {
				t.Fatalf("failure %d: again %v", failures, again)
			}
			if !again {
				return
			}
			base := []time.Duration{1, 2, 4, 8}[failures-1] * time.Second
			asked := min(after, 5*time.Minute)
			if pause < max(base*9/10, asked) || pause > max(base*11/10, asked) {
				t.Fatalf("failure %d, asked for %v: pause %v", failures, after, pause)
			}
		}
	})
}

// TestRestartPause compares the schedule with its table.
func TestRestartPause(t *testing.T) {
	want := []time.Duration{1, 2, 4, 8, 16, 32, 60, 60, 60}
	for i, w := range want {
		w *= time.Second
		for jitter, f := range map[float64]float64{0: 1, 1: 1.1, -1: 0.9, 9: 1.1, -9: 0.9} {
			d := fetch.RestartPause(i+1, jitter)
			if diff := d - time.Duration(float64(w)*f); diff.Abs() > time.Millisecond {
				t.Errorf("restart %d with jitter %v after %v, want %v × %v", i+1, jitter, d, w, f)
			}
		}
	}
	if fetch.RestartPause(1<<30, 0) != time.Minute {
		t.Error("the schedule grows without end")
	}
}

// TestDownloadModel lets a server misbehave in any order (PCO-65, 69, 70): what
// comes is right or a typed error, within a bounded number of requests; and after
// an error a run against an honest server ends well.
func TestDownloadModel(t *testing.T) {
	const size = 16 << 10
	b, wrong := content(1, size), content(2, size)
	faults := []string{"honest", "honest", "cut", "cut", "busy", "range", "wrong", "whole", "416", "tag", "long", "gone"}
	rapid.Check(t, func(rt *rapid.T) {
		plan := rapid.SliceOfN(rapid.SampledFrom(faults), 1, 12).Draw(rt, "faults")
		at := rapid.SliceOfN(rapid.IntRange(0, size), len(plan), len(plan)).Draw(rt, "at")
		left := rapid.IntRange(0, size).Draw(rt, "left")
		var problem string
		inWorld(t, map[string][]byte{model: b}, func(w *world) {
			w.hub.etag = `"a"`
			w.hub.fault = func(n int, _ string, rw http.ResponseWriter, r *http.Request) bool {
				if n > len(plan) {
					return false
				}
				switch plan[n-1] {
				case "cut":
					cut(rw, r, b, `"a"`, at[n-1])
				case "busy":
					rw.WriteHeader(http.StatusServiceUnavailable)
				case "range":
					rw.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", at[n-1], size-1, size))
					rw.WriteHeader(http.StatusPartialContent)
					rw.Write(b[at[n-1]:])
				case "wrong":
					rw.Write(wrong)
				case "whole":
					rw.Header().Set("ETag", `"b"`)
					rw.Write(b)
				case "416":
					rw.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
				case "tag":
					w.hub.etag = `"c"`
					return false
				case "long":
					rw.Write(slices.Concat(b, b))
				case "gone":
					rw.WriteHeader(http.StatusNotFound)
				default:
					return false
				}
				return true
			}
			p := w.resolve(modelRef)
			if err := fetch.WritePart(w.root, p, p.Files[0], b[:left], `"a"`, 0); err != nil {
				problem = err.Error()
				return
			}
			got, err := w.sources.Download(w.Context(), p, w.root, nil)
			e, typed := errors.AsType[*fetch.Error](err)
			switch {
			case err == nil && got[0].SHA256 != sum(b):
				problem = "wrong bytes"
			case err != nil && (got != nil || !typed || e.Code == ""):
				problem = fmt.Sprintf("not a typed error: %v", err)
			case w.hub.requests() > 10:
				problem = fmt.Sprintf("%d requests", w.hub.requests())
			}
			w.hub.fault = nil
			if got, err = w.sources.Download(w.Context(), p, w.root, nil); problem == "" && (err != nil || got[0].SHA256 != sum(b)) {
				problem = fmt.Sprintf("afterwards: %v", err)
			}
		})
		if problem != "" {
			rt.Fatal(problem)
		}
	})
}
