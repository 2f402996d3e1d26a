package catalog

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"

	"github.com/llorch/llorch/inputvalidation"
)

// Bounds of a directory's name. A file system takes 255 bytes.
const (
	maxSlug  = 200
	longMark = "~" // cannot occur in a short slug
)

// slug returns a name for a directory that no other text has, also where the file
// system ignores letter case: small letters, digits and inner dots and hyphens
// stand for themselves, every other byte is '_' and two hexadecimal digits. What
// would be too long is its SHA-256.
func slug(text string) string {
	name := escapeName(text, 0)
	if len(name) > maxSlug {
		sum := sha256.Sum256([]byte(text))
		return longMark + hex.EncodeToString(sum[:])
	}
	if _, err := inputvalidation.ParseRelPath("slug", name); err != nil {
		return escapeName(text, 1) // the name of a device on some system
	}
	return name
}

// escapeName escapes the first bytes whatever they are.
func escapeName(text string, first int) string {
	var b strings.Builder
	for i := range len(text) {
		c := text[i]
		inner := i > 0 && i < len(text)-1
		if i >= first && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || inner && (c == '.' || c == '-')) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "_%02x", c)
		}
	}
	return b.String()
}

// unslug undoes slug; it cannot for what was too long.
func unslug(name string) (string, bool) {
	text, err := url.PathUnescape(strings.ReplaceAll(name, "_", "%"))
	return text, err == nil && slug(text) == name
}
