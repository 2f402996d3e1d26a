package storetest

import (
	"errors"
	"slices"
	"testing"

	"github.com/llorch/llorch/orchestrator/store"
)

func (c *session) put1(key, data string, expect store.Version) store.Version {
	c.t.Helper()
	v, err := c.PutDoc(c.ctx, store.Doc{Kind: store.KindKey, Key: key, Data: []byte(data), Version: 77}, expect)
	if err != nil || v == 0 {
		c.t.Fatalf("PutDoc(expect %d) = %d, %v", expect, v, err)
	}
	return v
}

func docVersions(t testing.TB, s suite) {
	c := s.begin(t)
	doc := func(data string) store.Doc { return store.Doc{Kind: store.KindKey, Key: "k", Data: []byte(data)} }
	v1 := c.put1("k", "one", 0)
	v2 := c.put1("k", "two", v1)
	if v2 <= v1 {
		t.Errorf("versions %d, %d do not rise", v1, v2)
	}
	for _, stale := range []store.Version{0, v1, v2 + 1} {
		if _, err := c.PutDoc(c.ctx, doc("three"), stale); !errors.Is(err, store.ErrVersion) {
			t.Errorf("PutDoc(expect %d) = %v, want ErrVersion", stale, err)
		}
		c.want("DeleteDoc of a stale version", c.DeleteDoc(c.ctx, store.KindKey, "k", stale), store.ErrVersion)
	}
	if d, err := c.Doc(c.ctx, store.KindKey, "k"); err != nil || d.Version != v2 || string(d.Data) != "two" || d.Key != "k" || d.Kind != store.KindKey {
		t.Errorf("Doc() = %+v, %v, want version %d", d, err, v2)
	}
	_, err := c.Doc(c.ctx, store.KindInstall, "k")
	c.want("Doc of another kind", err, store.ErrNotFound)
	_, err = c.PutDoc(c.ctx, doc("x"), v2)
	c.want("PutDoc", err, nil)
	_, err = c.PutDoc(c.ctx, store.Doc{Kind: store.KindInstall, Key: "none"}, 1)
	c.want("PutDoc of a version that never was", err, store.ErrVersion)
	c.want("DeleteDoc of an absent one", c.DeleteDoc(c.ctx, store.KindKey, "none", 0), nil)
}

func docVersionsRise(t testing.TB, s suite) {
	c := s.begin(t)
	var last store.Version
	for range 3 {
		v := c.put1("k", "x", 0)
		if v <= last {
			t.Fatalf("version %d after %d", v, last)
		}
		last = c.put1("k", "y", v)
		c.want("DeleteDoc", c.DeleteDoc(c.ctx, store.KindKey, "k", last), nil)
		c.want("DeleteDoc again", c.DeleteDoc(c.ctx, store.KindKey, "k", last), nil)
		if _, err := c.Doc(c.ctx, store.KindKey, "k"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("Doc after its delete = %v, want ErrNotFound", err)
		}
	}
}

func docsByKey(t testing.TB, s suite) {
	c := s.begin(t)
	var want []string
	for i := range 40 {
		key := "p/" + string(rune('A'+i)) // also past 'Z'
		want = append(want, key)
		c.put1(key, "data of "+key, 0)
	}
	for _, other := range []string{"p", "p.", "p0", "q", "p\U0010ffff"} {
		c.put1(other, "", 0)
	}
	slices.Sort(want)
	var got []string
	for d, err := range c.Docs(c.ctx, store.KindKey, "p/") {
		if err != nil {
			t.Fatalf("Docs() = %v", err)
		}
		got = append(got, d.Key)
		if string(d.Data) != "data of "+d.Key || d.Version == 0 || d.Kind != store.KindKey {
			t.Errorf("Docs() yields %+v under %q", d, d.Key)
		}
		// The store stays usable inside the loop.
		if err := c.DeleteDoc(c.ctx, d.Kind, d.Key, d.Version); err != nil {
			t.Errorf("DeleteDoc() in the loop = %v", err)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("Docs() yields %q, want %q", got, want)
	}
	for prefix, n := range map[string]int{"": 5, "p": 4, "p/": 0, "p\U0010ffff": 1, "q": 1, "\U0010ffff": 0} {
		count := 0
		for range c.Docs(c.ctx, store.KindKey, prefix) {
			count++
		}
		if count != n {
			t.Errorf("Docs(prefix %q) yields %d, want %d", prefix, count, n)
		}
	}
	for range c.Docs(c.ctx, store.KindKey, "") {
		break // an abandoned loop holds nothing: the suite closes the store after it
	}
}
