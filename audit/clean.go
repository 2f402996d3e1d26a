package audit

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/llorch/llorch/audit/internal/logfile"
)

// Bounds of what one record may hold, in bytes before escaping.
const (
	maxText     = 1024
	maxListItem = 256
	maxList     = 64 // items of a list or a map
	maxKey      = 64
	shortText   = 64 // what the longest texts shrink to when a line is too long
	maxLine     = logfile.MaxLine
)

// cleaner turns foreign text into what a line may hold, and remembers whether
// it had to change any.
type cleaner struct {
	limit              int // cap of a text; 0 = the caps above
	escaped, truncated bool
	badID              bool
}

func (c *cleaner) text(s string) string { return c.cut(s, maxText) }

// cut shortens s to limit bytes on a rune boundary and says by how much, with
// a digest of the whole original, then escapes.
func (c *cleaner) cut(s string, limit int) string {
	if c.limit > 0 {
		limit = min(limit, c.limit)
	}
	suffix := ""
	if len(s) > limit {
		end := limit
		for end > limit-utf8.UTFMax && !utf8.RuneStart(s[end]) {
			end--
		}
		if !utf8.RuneStart(s[end]) { // not UTF-8 here: any place will do
			end = limit
		}
		sum := sha256.Sum256([]byte(s))
		suffix = cutMark(len(s)-end, sum)
		s = s[:end]
		c.truncated = true
	}
	e := Escape(s)
	if len(e) != len(s) {
		c.escaped = true
	}
	return e + suffix
}

func cutMark(n int, sum [32]byte) string {
	return "…(+" + strconv.Itoa(n) + " sha256:" + hex.EncodeToString(sum[:6]) + ")"
}

// list bounds a list of texts. Of a longer one the first 63 stay, and the 64th
// place tells how many are missing, with a digest over all.
func (c *cleaner) list(items []string) []string {
	mark := ""
	if len(items) > maxList {
		c.truncated = true
		h := sha256.New()
		for _, s := range items {
			_ = binary.Write(h, binary.BigEndian, uint64(len(s))) // a hash never fails
			h.Write([]byte(s))
		}
		mark = cutMark(len(items)-maxList+1, [32]byte(h.Sum(nil)))
		items = items[:maxList-1]
	}
	out := make([]string, 0, len(items)+1)
	for _, s := range items {
		out = append(out, c.cut(s, maxListItem))
	}
	if mark != "" {
		out = append(out, mark)
	}
	return out
}

// flags lists what was changed, as JSON; nil if nothing was.
func (c *cleaner) flags() []byte {
	var set []byte
	for _, f := range []struct {
		on   bool
		name string
	}{{c.badID, `"bad_id"`}, {c.escaped, `"escaped"`}, {c.truncated, `"truncated"`}} {
		if f.on {
			set = append(comma(set), f.name...)
		}
	}
	return set
}

// id keeps s if ok says that it has the form of its kind.
func (c *cleaner) id(s string, ok func(string) bool) string {
	if s == "" || ok(s) {
		return s
	}
	c.badID = true
	return ""
}

// only reports whether s has no other characters than those of the alphabet.
func only(s, alphabet string) bool { return strings.Trim(s, alphabet) == "" }

const (
	digits  = "0123456789"
	letters = "abcdefghijklmnopqrstuvwxyz"
)

func isCorrelation(s string) bool {
	return s != "" && len(s) <= 64 && only(s, digits+letters+"ABCDEFGHIJKLMNOPQRSTUVWXYZ-")
}

func isHex(s string, n int) bool { return len(s) == n && only(s, digits+"abcdef") }

func isTrace(s string) bool { return isHex(s, 32) }
func isSpan(s string) bool  { return isHex(s, 16) }

// parseHash reads 64 lower-case hex digits.
func parseHash(s string) (h [32]byte, err error) {
	if !isHex(s, 64) {
		return h, errors.New("audit: a hash is 64 lower-case hex digits")
	}
	_, err = hex.Decode(h[:], []byte(s))
	return h, err
}

// hexHash is a hash that is stored as text.
type hexHash [32]byte

func (h hexHash) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h[:]), nil }

func (h *hexHash) UnmarshalText(text []byte) (err error) {
	*h, err = parseHash(string(text))
	return err
}
