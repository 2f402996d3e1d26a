package fetch_test

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/llorch/llorch/poolcore/fetch"
)

// TestProgress proves PCO-71: the reports of a download that resumes, is cut and
// starts again: sums over all files, monotone but for the restart, with rate and
// time left.
func TestProgress(t *testing.T) {
	const size = 100_000
	inWorld(t, map[string][]byte{model: content(1, size)}, func(w *world) {
		w.hub.fault = func(n int, name string, rw http.ResponseWriter, r *http.Request) bool {
			if n == 2 {
				return false // whole, since nothing carries a tag that fits
			}
			rw.Header().Set("ETag", `"x"`)
			rw.Header().Set("Content-Length", "100000")
			for i := range 50 {
				rw.Write(w.hub.files[name][i*1000 : i*1000+1000])
				http.NewResponseController(rw).Flush()
				time.Sleep(time.Second) // in the bubble
			}
			panic(http.ErrAbortHandler)
		}
		var all []fetch.Progress
		plan := w.resolve(modelRef)
		if _, err := w.sources.Download(w.Context(), plan, w.root, func(p fetch.Progress) { all = append(all, p) }); err != nil {
			t.Fatal(err)
		}
		falls := 0
		for i, p := range all {
			if p.BytesTotal != size || p.BytesDone > size || p.Pct < 0 || p.Pct > 100 {
				t.Errorf("report %d: %+v", i, p)
			}
			if i > 0 && p.BytesDone < all[i-1].BytesDone {
				falls++
				if p.BytesDone != 0 {
					t.Errorf("falls to %d, not to the start", p.BytesDone)
				}
			}
		}
		if falls != 1 {
			t.Errorf("%d falls, want that of the restart", falls)
		}
		p := all[40] // 1 kB a second
		if p.Rate < 900 || p.Rate > 1100 || p.ETAMS < 50_000 || p.ETAMS > 70_000 || p.File != model || p.Phase != fetch.PhaseDownloading {
			t.Errorf("after 40 s: %+v", p)
		}
		if last := all[len(all)-1]; last.Phase != fetch.PhaseVerifying || last.BytesDone != size || last.ETAMS != 0 || last.Received != size+50_000 {
			t.Errorf("at the end: %+v", last)
		}
		w.hub.fault = failing(99, 404, "")
		fetch.Discard(w.root, plan)
		var last fetch.Progress
		w.sources.Download(w.Context(), plan, w.root, func(p fetch.Progress) { last = p })
		if last.Phase != fetch.PhaseFailed {
			t.Errorf("after an error: %+v", last)
		}
	})
}

// TestProgressText proves PCO-71's derived fields and their names in JSON.
func TestProgressText(t *testing.T) {
	for want, p := range map[string]fetch.Progress{
		"1.0 MB of 4.00 GB (0 %), 2.0 MB/s, 33m20s left": {BytesDone: 1e6, BytesTotal: 4e9, Rate: 2e6},
		"3.99 GB of 4.00 GB (99 %), 2.0 MB/s, 5s left":   {BytesDone: 3.99e9, BytesTotal: 4e9, Rate: 2e6},
		"4.00 GB of 4.00 GB (100 %)":                     {BytesDone: 4e9, BytesTotal: 4e9, Rate: 2e6},
		"2 kB of 1.20 TB (0 %)":                          {BytesDone: 1500, BytesTotal: 1.2e12},
		"0 kB of 0 kB (100 %)":                           {},
		"5.0 MB, 1.0 MB/s":                               {BytesDone: 5e6, BytesTotal: -1, Rate: 1e6},
	} {
		if got := p.Finished().Human; got != want {
			t.Errorf("%+v: %q, want %q", p, got, want)
		}
	}
	b, err := json.Marshal(fetch.Progress{Op: "o", File: "f", Phase: "done", BytesDone: 1, BytesTotal: 2, Pct: 50, Rate: 3, ETAMS: 4, Human: "h"})
	const want = `{"op":"o","file":"f","phase":"done","bytes_done":1,"bytes_total":2,"pct":50,"rate":3,"eta_ms":4,"human":"h"}`
	if err != nil || string(b) != want {
		t.Errorf("%s %v", b, err)
	}
}
