package storetest

import (
	"cmp"
	"errors"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/llorch/llorch/orchestrator/store"
)

// library stores tasks 1…n that differ in everything a filter reads.
func (c *session) library(n int) []store.Record {
	c.t.Helper()
	base := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := 1; i <= n; i++ {
		q := task(i)
		q.Record.Tenant = []string{"a", "b"}[i%2]
		q.Record.Subject = store.SubjectRef{byte(i % 3)}
		q.Record.Model = []string{"m", "n"}[i/2%2]
		q.Record.Session = []string{"", "s", "t"}[i%3]
		if i%5 == 0 {
			q.Record.IdemKey = "k" + strconv.Itoa(i%10)
			q.Record.Tenant = "k" + strconv.Itoa(i)
		}
		q.Record.Created = base.Add(time.Duration(i) * time.Second)
		c.submit(q)
		switch i % 4 {
		case 1:
			c.want("Start", c.start(i, 1).Err, nil)
		case 2:
			c.want("Complete", c.complete(i, 0, store.Failed, "X"), nil)
		case 3:
			c.want("Cancel", c.cancel(i, "client").Err, nil)
		}
	}
	all := c.all()
	if len(all) != n {
		c.t.Fatalf("store holds %d tasks, want %d", len(all), n)
	}
	return all
}

func filters(t testing.TB, s suite) {
	c := s.begin(t)
	all := c.library(24)
	mid := all[11]
	for what, f := range map[string]struct {
		filter store.Filter
		holds  func(store.Record) bool
	}{
		"tenant":     {store.Filter{Tenant: "a"}, func(r store.Record) bool { return r.Tenant == "a" }},
		"subject":    {store.Filter{Subject: store.SubjectRef{2}}, func(r store.Record) bool { return r.Subject[0] == 2 }},
		"live":       {store.Filter{States: []store.State{store.Queued, store.Running}}, func(r store.Record) bool { return !r.State.Terminal() }},
		"ended":      {store.Filter{States: []store.State{store.Failed}}, func(r store.Record) bool { return r.State == store.Failed }},
		"live, dead": {store.Filter{States: []store.State{store.Queued, store.Cancelled}}, func(r store.Record) bool { return r.State == store.Queued || r.State == store.Cancelled }},
		"no state":   {store.Filter{States: []store.State{store.Deleted}}, func(store.Record) bool { return false }},
		"model":      {store.Filter{Model: "n"}, func(r store.Record) bool { return r.Model == "n" }},
		"session":    {store.Filter{Session: "t"}, func(r store.Record) bool { return r.Session == "t" }},
		"key":        {store.Filter{IdemKey: "k5"}, func(r store.Record) bool { return r.IdemKey == "k5" }},
		"own key":    {store.Filter{Tenant: "k15", IdemKey: "k5"}, func(r store.Record) bool { return r.Tenant == "k15" }},
		"no key":     {store.Filter{Tenant: "k15", IdemKey: "k0"}, func(store.Record) bool { return false }},
		"key, later": {store.Filter{Tenant: "k15", IdemKey: "k5", After: 1<<64 - 1}, func(store.Record) bool { return false }},
		"since":      {store.Filter{Since: mid.Created}, func(r store.Record) bool { return !r.Created.Before(mid.Created) }},
		"before":     {store.Filter{Before: mid.Seq}, func(r store.Record) bool { return r.Seq < mid.Seq }},
		"after":      {store.Filter{After: mid.Seq}, func(r store.Record) bool { return r.Seq > mid.Seq }},
		"between":    {store.Filter{After: all[2].Seq, Before: mid.Seq}, func(r store.Record) bool { return r.Seq > all[2].Seq && r.Seq < mid.Seq }},
		"far bounds": {store.Filter{Before: 1<<64 - 1}, func(store.Record) bool { return true }},
		"past all":   {store.Filter{After: 1<<64 - 1}, func(store.Record) bool { return false }},
		"everything": {store.Filter{}, func(store.Record) bool { return true }},
		"all at once": {
			store.Filter{Tenant: "a", Model: "m", States: []store.State{store.Queued}, After: 1},
			func(r store.Record) bool {
				return r.Tenant == "a" && r.Model == "m" && r.State == store.Queued && r.Seq > 1
			},
		},
	} {
		var want []store.TaskID
		for _, r := range all {
			if f.holds(r) {
				want = append(want, r.ID)
			}
		}
		f.filter.Oldest = true
		if got := ids(c.page(f.filter)); !slices.Equal(got, want) {
			t.Errorf("%s, oldest first: %d tasks, want %d in order of seq", what, len(got), len(want))
		}
		f.filter.Oldest = false
		slices.Reverse(want)
		if got := ids(c.page(f.filter)); !slices.Equal(got, want) {
			t.Errorf("%s, newest first: %d tasks, want %d in falling order of seq", what, len(got), len(want))
		}
	}
}

func ids(page []store.Record) (out []store.TaskID) {
	for _, r := range page {
		out = append(out, r.ID)
	}
	return out
}

func paging(t testing.TB, s suite) {
	c := s.begin(t)
	batch := make([]store.NewTask, 250)
	for i := range batch {
		batch[i] = task(i)
	}
	c.submit(batch...)
	all := ids(c.all())
	if n := len(c.page(store.Filter{})); n != 100 {
		t.Errorf("a page of limit 0 holds %d tasks, want 100", n)
	}
	var oldest, newest []store.TaskID
	f := store.Filter{Oldest: true, Limit: 60}
	for range 6 {
		page := c.page(f)
		oldest = append(oldest, ids(page)...)
		if len(page) < f.Limit {
			break
		}
		f.After = page[len(page)-1].Seq
	}
	f = store.Filter{Limit: 60}
	for range 6 {
		page := c.page(f)
		newest = append(newest, ids(page)...)
		if len(page) < f.Limit {
			break
		}
		f.Before = page[len(page)-1].Seq
	}
	slices.Reverse(newest)
	if len(all) != 250 || !slices.Equal(oldest, all) || !slices.Equal(newest, all) {
		t.Errorf("pages hold %d and %d tasks, want the same %d in order", len(oldest), len(newest), len(all))
	}
}

// scans stores more tasks than one scan reads; those that are looked for lie at
// both ends.
func scans(t testing.TB, s suite) {
	c := s.begin(t)
	const many = store.MaxPage + 500
	var batch []store.NewTask
	for n := range many {
		q := task(n)
		q.Record.Tenant, q.Body = "a", nil
		if n < 3 || n >= many-3 {
			q.Record.Session = "s"
		}
		if batch = append(batch, q); len(batch) == 1000 || n == many-1 {
			c.submit(batch...)
			batch = nil
		}
	}
	for what, f := range map[string]store.Filter{
		"newest": {Session: "s"}, "oldest": {Session: "s", Oldest: true}, "tenant": {Session: "s", Tenant: "a"},
		"ended": {States: []store.State{store.Failed}}, "other model": {Model: "x", Oldest: true},
	} {
		page, err := c.Tasks(c.ctx, f)
		more, ok := errors.AsType[*store.MoreError](err)
		want := 3
		if f.Session == "" {
			want = 0
		}
		if !ok || len(page) != want || more.Next == 0 {
			t.Errorf("%s: Tasks() = %d tasks, %v, want %d and a MoreError", what, len(page), err, want)
		}
		page, err = store.Page(c.ctx, c.Store, f)
		rising := slices.IsSortedFunc(page, func(a, b store.Record) int { return cmp.Compare(a.Seq, b.Seq) })
		if err != nil || len(page) != 2*want || want > 0 && rising != f.Oldest {
			t.Errorf("%s: Page() = %d tasks, rising %t, %v, want %d", what, len(page), rising, err, 2*want)
		}
		f.Limit = 2
		if page, err = store.Page(c.ctx, c.Store, f); err != nil || len(page) != min(want, 2) {
			t.Errorf("%s: Page(limit 2) = %d tasks, %v", what, len(page), err)
		}
	}
	for what, f := range map[string]store.Filter{
		"tenant": {Tenant: "none"}, "subject": {Subject: person(1)}, "live": {States: []store.State{store.Running}},
	} {
		if page, err := c.Tasks(c.ctx, f); err != nil || len(page) != 0 {
			t.Errorf("%s: Tasks() = %d tasks, %v, want none: an index answers this", what, len(page), err)
		}
	}
}

func purge(t testing.TB, s suite) {
	c := s.begin(t)
	c.library(24)
	count := func(states ...store.State) int {
		return len(c.page(store.Filter{States: states, Limit: store.MaxPage}))
	}
	ended := c.page(store.Filter{States: []store.State{store.Failed, store.Cancelled}, Oldest: true})
	purge := func(before time.Time, limit, want int) {
		t.Helper()
		if n, err := c.Purge(c.ctx, c.epoch, before, limit); err != nil || n != want {
			t.Errorf("Purge(limit %d) = %d, %v, want %d", limit, n, err, want)
		}
	}
	purge(ended[0].Created.Add(-100*365*24*time.Hour), 10, 0)
	later := time.Now().Add(time.Hour)
	purge(later, 0, 0)
	purge(later, 5, 5)
	left := ids(c.page(store.Filter{States: []store.State{store.Failed, store.Cancelled}, Oldest: true}))
	if !slices.Equal(left, ids(ended[5:])) {
		t.Error("purge did not take the oldest")
	}
	purge(later, store.MaxPage, 7)
	if live, dead := count(store.Queued, store.Running), count(store.Failed, store.Cancelled); live != 12 || dead != 0 {
		t.Errorf("%d live and %d ended tasks are left, want 12 and 0", live, dead)
	}
	if _, err := c.Output(c.ctx, ended[0].ID); err == nil {
		t.Error("an output outlived its task")
	}
	newest := c.all()[11].Seq
	for _, r := range c.all() {
		c.want("Cancel", c.cancelByID(r.ID), nil)
		if r.State == store.Running {
			_, err := c.Complete(c.ctx, c.epoch, []store.Completion{{ID: r.ID, Attempt: 1, State: store.Cancelled}})
			c.want("Complete", err, nil)
		}
	}
	purge(time.Now().Add(time.Hour), store.MaxPage, 12)
	if seq := c.submit(task(2))[0].Seq; seq <= newest {
		t.Errorf("seq %d came back after a purge, want one above %d", seq, newest)
	}
}

func (c *session) cancelByID(id store.TaskID) error {
	c.t.Helper()
	_, err := c.Cancel(c.ctx, c.epoch, []store.CancelReq{{ID: id, Reason: "operator"}})
	return err
}
