package secrets

import (
	"cmp"
	"context"
	"io/fs"
	"os"
)

// EnsureKeyFileSteps is EnsureKeyFile with a look at each step, which fails if
// before does.
func EnsureKeyFileSteps(root *os.Root, name string, before func(step string) error) (Key, bool, error) {
	return ensureKeyFile(root, name, before)
}

// Site is a machine made for a test.
type Site struct {
	Run  string              // in place of /run/secrets
	Env  map[string]string   // in place of the environment
	Step func(step string)   // looks in between the steps of a read
	Seen func(buffer []byte) // looks at the buffer that a file is read to
}

func (s Site) site() site {
	step := func(name string, b []byte) {
		if s.Step != nil {
			s.Step(name)
		}
		if s.Seen != nil && b != nil {
			s.Seen(b)
		}
	}
	return site{run: cmp.Or(s.Run, runSecrets), step: step, lookup: func(name string) (string, bool) { v, ok := s.Env[name]; return v, ok }}
}

// ReadFileOn is ReadFile on another machine.
func ReadFileOn(ctx context.Context, s Site, path string, r Rules) (Secret, Meta, error) {
	return s.site().readFile(ctx, path, r)
}

// Judge is the table of rules, alone.
func Judge(mounted, anyOwner, credential bool, uid int, file, dir fs.FileInfo) (warning string, err error) {
	return judge(place{mounted: mounted, anyOwner: anyOwner, credential: credential}, uid, "/dir/file", file, dir)
}

// RunSecrets is where mounted secrets are looked for.
const RunSecrets = runSecrets
