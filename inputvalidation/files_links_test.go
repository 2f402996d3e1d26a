//go:build unix

package inputvalidation_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/llorch/llorch/inputvalidation"
)

// Links from each directory to the next do not multiply the ways: each
// directory is listed once.
func TestTreeFilesLinkFan(t *testing.T) {
	const levels, links = 9, 12 // 12 to the power of 8 ways
	root := t.TempDir()
	for i := range levels {
		plant(t, root, fmt.Sprintf("d%d/f%d", i, i))
		for j := range links {
			if i < levels-1 {
				must(t, os.Symlink(fmt.Sprintf("../d%d", i+1), filepath.Join(root, fmt.Sprintf("d%d/l%02d", i, j))))
			}
		}
	}
	plant(t, root, "z")
	within := openTree(t, root, inputvalidation.TreeConfig{FollowWithin: true, MaxEntries: 1 + levels*(links+2)})
	want := []string{"z 0"}
	for i := range levels { // the first link of each is met before its files, and the way down is the longest
		want = append(want, fmt.Sprintf("d0/%sf%d 0", strings.Repeat("l00/", i), i))
	}
	slices.Sort(want)
	got := shown(within.Files(t.Context()))
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("Files = %q, want %q", got, want)
	}
	strict := shown(openTree(t, root, inputvalidation.TreeConfig{}).Files(t.Context()))
	if len(strict) != levels+1 || strict[0] != "d0/f0 0" || strict[levels] != "z 0" {
		t.Errorf("strict Files = %q", strict)
	}
}

// A link to a directory that was listed is left out also at MaxDepth; one to a
// directory that was not ends the listing there.
func TestTreeFilesLinkAtDepth(t *testing.T) {
	root := t.TempDir()
	plant(t, root, "a/f", "b/g", "c/x")
	must(t, os.Symlink("../a", filepath.Join(root, "b/again")))
	tree := openTree(t, root, inputvalidation.TreeConfig{FollowWithin: true, MaxDepth: 2})
	wantList(t, "Files", tree.Files(t.Context()), "a/f 0", "b/g 0", "c/x 0")
	must(t, os.Symlink("../c", filepath.Join(root, "b/new")))
	wantList(t, "Files", tree.Files(t.Context()), "a/f 0", "b/g 0", "b/new! depth")
}

// Whatever links stand among the directories, every file is listed exactly
// once, and the second listing is like the first.
func TestTreeFilesLinksMissNothing(t *testing.T) {
	rng := rand.New(rand.NewPCG(30, 4))
	for range 60 {
		root := quickDir(t)
		dirs, want := []string{"."}, []string{}
		for i := range 10 {
			dir := filepath.Join(dirs[rng.IntN(len(dirs))], fmt.Sprintf("%c%d", 'a'+rng.IntN(26), i))
			base := fmt.Sprintf("%c-file%d", 'a'+rng.IntN(26), i)
			plant(t, root, dir+"/"+base)
			dirs, want = append(dirs, dir), append(want, base)
		}
		for i := range 25 {
			from, to := dirs[rng.IntN(len(dirs))], dirs[rng.IntN(len(dirs))]
			target, err := filepath.Rel(from, to)
			must(t, err)
			must(t, os.Symlink(target, filepath.Join(root, from, fmt.Sprintf("%c-link%d", 'a'+rng.IntN(26), i))))
		}
		tree := openTree(t, root, inputvalidation.TreeConfig{FollowWithin: true})
		var got []string
		for f, err := range tree.Files(t.Context()) {
			if err == nil {
				got = append(got, f.Path.Base())
			} else {
				wantRule(t, "Files at "+f.Path.String(), err, inputvalidation.RuleSymlink)
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("Files = %q, want %q", got, want)
		}
		all := shown(tree.Files(t.Context()))
		wantList(t, "Files again", tree.Files(t.Context()), all...)
	}
}
