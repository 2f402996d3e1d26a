package secrets

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	runSecrets = "/run/secrets" // where container engines mount secrets
	dataLink   = "..data"       // leads to the present generation of a mounted volume

	maxTries = 16 // of one load to read what is replaced meanwhile
)

// site is what a reader knows of the machine.
type site struct {
	run    string                      // runSecrets, but in tests
	lookup func(string) (string, bool) // the environment
	step   func(name string, b []byte) // called between the steps of a read, with its buffer, for tests
}

func thisMachine(lookup func(string) (string, bool)) site { return site{runSecrets, lookup, noStep} }

func noStep(string, []byte) {}

// place says by which rules a file is judged: mounted ones, else private ones.
type place struct {
	mounted    bool
	anyOwner   bool // bind mounts keep the owners of the host
	credential bool // the service manager's, where 0440 is normal
}

// place returns the rules for path, as far as its name decides, and the directory
// that it must not leave.
func (s site) place(path string) (p place, top string) {
	if strings.HasPrefix(path, s.run+string(filepath.Separator)) {
		p, top = place{mounted: true, anyOwner: true}, s.run
	}
	dir, err := credentialsDir(s.lookup)
	if err == nil && strings.HasPrefix(path, dir+string(filepath.Separator)) {
		p.mounted, p.credential, top = true, true, dir
	}
	return p, top
}

// asDir behind the name of a directory keeps a FIFO in its place from blocking.
const asDir = string(filepath.Separator) + "."

// openDir opens the directory of path by way of limit, which must be there, and
// top, unless they are empty: no link leads out of the outermost, and path lies
// beneath both.
func openDir(path, limit, top string) (*os.Root, error) {
	ways := slices.DeleteFunc([]string{limit, top}, func(dir string) bool { return dir == "" })
	slices.SortFunc(ways, func(a, b string) int { return len(a) - len(b) })
	ways = append(ways, filepath.Dir(path))
	root, err := os.OpenRoot(ways[0] + asDir)
	for i := 1; err == nil && i < len(ways); i++ {
		outer := root
		rel, _ := filepath.Rel(ways[i-1], ways[i]) // "" where there is no way
		root, err = outer.OpenRoot(cmp.Or(rel, "..") + asDir)
		_ = outer.Close() // was only read
	}
	if err == nil {
		return root, nil
	}
	if _, gone := os.Stat(limit); limit != "" && gone != nil { // broken, not absent
		return nil, fault("read", ErrPermission, "the directory Rules.Root, which it must lie beneath, cannot be found").at(path)
	}
	return nil, system("read", path, err)
}

// volumeIn returns what root is if it holds the link of a mounted volume, made by
// somebody who may decide about secrets, else nil.
func (r reading) volumeIn(root *os.Root) fs.FileInfo {
	data, err1 := root.Lstat(dataLink)
	dir, err2 := root.Stat(".")
	if err1 != nil || err2 != nil || data.Mode().Type() != fs.ModeSymlink || foreign(r.place, data) {
		return nil
	}
	return dir
}

// fromVolume reads name in a mounted volume, from one generation.
func (r reading) fromVolume(root *os.Root, name string) (s Secret, m Meta, err error) {
	r.place.mounted = true
	link, err1 := root.Lstat(name)
	target, err2 := root.Readlink(name)
	inside, ok := strings.CutPrefix(target, dataLink+"/")
	if err1 != nil || err2 != nil || !ok || foreign(r.place, link) {
		return r.from(root, name) // it is none of a generation, or refused there
	}
	for range maxTries { // a generation that is taken away during the read is none
		s, m, err = r.fromGeneration(root, inside)
		if !errors.Is(err, ErrNotFound) && !errors.Is(err, fs.ErrNotExist) {
			return s, m, err
		}
	}
	return Secret{}, Meta{}, r.dangling()
}

// dangling refuses a link to nothing: broken, not absent.
func (r reading) dangling() error {
	return r.refusal(fs.ErrNotExist, "its link, or the ..data link beside it, leads nowhere")
}

// fromGeneration opens the generation once; all else goes through that handle.
func (r reading) fromGeneration(root *os.Root, inside string) (Secret, Meta, error) {
	gen, err := root.OpenRoot(dataLink + asDir)
	if err != nil {
		return Secret{}, Meta{}, system("read", r.path, err)
	}
	defer gen.Close()
	r.step("generation", nil)
	return r.from(gen, inside)
}
