package foreign

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// hexBytes is bytes that stand in JSON as hexadecimal digits.
type hexBytes []byte

func (b *hexBytes) UnmarshalText(text []byte) (err error) {
	*b, err = hex.AppendDecode(nil, text)
	return err
}

// vector is one test of Wycheproof's schemas for MAC, HKDF and AEAD, with the
// members of its group that matter.
type vector struct {
	ID                          int `json:"tcId"`
	Result                      string
	Flags                       []string
	Key, Msg, Tag, IV, AAD, Ct  hexBytes
	IKM, Salt, Info, OKM        hexBytes
	Size                        int // of the output, in bytes
	keyBits, nonceBits, tagBits int
}

// valid reports what Wycheproof says; its third word, acceptable, does not occur
// in these files.
func (v *vector) valid(t *testing.T) bool {
	t.Helper()
	if v.Result != "valid" && v.Result != "invalid" {
		t.Fatalf("vector %d: the result is %q", v.ID, v.Result)
	}
	return v.Result == "valid"
}

// vectorFolder asks the go command where the module of vectors lies.
var vectorFolder = sync.OnceValues(func() (string, error) {
	cmd := exec.Command("go", "mod", "download", "-json", "github.com/c2sp/wycheproof")
	cmd.Env = append(os.Environ(), "GOWORK=off")
	out, err := cmd.Output()
	if err != nil {
		return "", err
	}
	var module struct{ Dir string }
	err = json.Unmarshal(out, &module)
	return module.Dir, err
})

// vectors reads a file of Wycheproof's, and fails unless it holds what the fixed
// version of the module holds: so many vectors, and so many of them invalid.
func vectors(t *testing.T, file string, all, invalid int) (out []vector) {
	t.Helper()
	dir, err := vectorFolder()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "testvectors_v1", file))
	if err != nil {
		t.Fatal(err)
	}
	var content struct {
		NumberOfTests int
		TestGroups    []struct {
			KeySize, IVSize, TagSize int
			Tests                    []vector
		}
	}
	if err := json.Unmarshal(text, &content); err != nil {
		t.Fatal(err)
	}
	for _, g := range content.TestGroups {
		for _, v := range g.Tests {
			v.keyBits, v.nonceBits, v.tagBits = g.KeySize, g.IVSize, g.TagSize
			if !v.valid(t) {
				invalid--
			}
			out = append(out, v)
		}
	}
	if len(out) != all || content.NumberOfTests != all || invalid != 0 {
		t.Fatalf("%s holds %d vectors, want %d; the invalid ones are %d short", file, len(out), all, invalid)
	}
	return out
}
