package foreign

import (
	"slices"
	"strings"
	"testing"

	"github.com/minimaxir/big-list-of-naughty-strings/naughtystrings"
)

// naughty returns the big list and our own attacks, each alone and, for ours, at
// the beginning, in the middle and at the end of a word.
func naughty(t *testing.T) []string {
	t.Helper()
	list := naughtystrings.Unencoded()
	if len(list) < 500 {
		t.Fatalf("the big list holds %d strings", len(list))
	}
	list = slices.Clone(list)
	for _, s := range slices.Concat(single(), forms) {
		list = append(list, s, s+"admin", "adm"+s+"in", "admin"+s)
	}
	if len(list) < 3000 {
		t.Fatalf("%d strings", len(list))
	}
	return list
}

// single returns every character that hides, reorders or drives something.
func single() (out []string) {
	for _, r := range [][2]rune{
		{0x00, 0x1f}, {0x7f, 0x9f}, // C0, DEL, C1
		{0x202a, 0x202e}, {0x2066, 0x2069}, {0x061c, 0x061c}, {0x200e, 0x200f}, // direction: Trojan Source
		{0x200b, 0x200d}, {0x2060, 0x2065}, {0x206a, 0x206f}, {0xfeff, 0xfeff}, {0x00ad, 0x00ad}, {0x034f, 0x034f}, // no width
		{0xe0000, 0xe007f}, {0xfe00, 0xfe0f}, {0xe0100, 0xe01ef}, {0x180b, 0x180f}, // tags, variation selectors
		{0x2028, 0x2029}, {0x00a0, 0x00a0}, {0x1680, 0x1680}, {0x2000, 0x200a}, {0x202f, 0x202f}, {0x205f, 0x205f}, {0x3000, 0x3000}, // lines, spaces
		{0x115f, 0x1160}, {0x17b4, 0x17b5}, {0x3164, 0x3164}, {0xffa0, 0xffa0}, {0x2800, 0x2800}, {0x1d159, 0x1d159}, {0x1d173, 0x1d17a}, // blank letters, music
		{0xfff0, 0xffff}, {0xfdd0, 0xfdef}, {0x1fffe, 0x1ffff}, {0x10fffe, 0x10ffff}, {0xe000, 0xe003}, {0xf0000, 0xf0003}, {0x100000, 0x100003}, // no characters, private ones
		{0x0378, 0x0379}, {0x40000, 0x40003}, // not assigned
		{0x0600, 0x0605}, {0x06dd, 0x06dd}, {0x070f, 0x070f}, {0x110bd, 0x110bd}, {0x13430, 0x1343f}, {0x1bca0, 0x1bca3}, // format characters of scripts
	} {
		for c := r[0]; c <= r[1]; c++ {
			out = append(out, string(c))
		}
	}
	return out
}

// forms are attacks of more than one character.
var forms = []string{
	// Trojan Source: what is shown is not what is read.
	"/*\u202e } \u2066if (isAdmin)\u2069 \u2066 begin admins only */", "access\u202e\u2066 // check\u2069 \u2066", "\u202dgpj.exe\u202c", "photo\u202egpj.exe",
	"/* \u2067text\u2069 \u202a\u202b\u202c nested */", strings.Repeat("\u202e", 60) + "deep" + strings.Repeat("\u202c", 60),
	// Hidden text: tag characters spell "hi", variation selectors carry bytes.
	"visible\U000e0001\U000e0068\U000e0069\U000e007f", "\U0001f600\U000e0148\U000e0155\U000e015c", "a\ufe00\ufe01\ufe02\ufe0f", "\u2764\ufe0f\u200d\U0001f525",
	"pa\u200bss\u200cwo\u200drd", "\u2060\u2061\u2062\u2063\u2064", "s\u00ade\u00adc\u00adret", "\ufeff\ufeffbom",
	// Letters of Cyrillic, Greek and other scripts that look like Latin ones.
	"\u0430dmin", "\u0440\u0430\u0443\u0440\u0430l", "r\u043e\u043et", "\u03bfpenai", "\u0391\u0392\u0395\u0396", "\u13a0\u13cf\u13bb", "\uff41\uff44\uff4d\uff49\uff4e",
	"\U0001d41a\U0001d41d\U0001d426\U0001d422\U0001d427", "\u24d0\u24d3\u24dc\u24d8\u24dd", "adm\u0131n", "\u212aelvin", "\ufb01le", "\u1e9e", "\u0130",
	"admin\u0338", "e\u0301", "\u00e9", "\u2025/\u2024\u2024/etc", "..\u2215..\u2215etc", "..\uff0fetc", "\uff0e\uff0e/etc", "a\u29f8b", "C\u02d0\u2216x",
	// Piles of marks.
	"Z" + strings.Repeat("\u0323\u0301\u0489", 40), strings.Repeat("\u0335", 300), "\u0e01" + strings.Repeat("\u0e49", 60), "\u20e3\u20dd",
	// Terminals: colours, cursor, title, hyperlink, paste, answers, 8-bit CSI and OSC.
	"\x1b[31mred\x1b[0m", "\x1b[2J\x1b[H", "\x1b]0;owned\x07", "\x1b]8;;http://example.invalid\x1b\\text\x1b]8;;\x1b\\", "\x1b[200~rm\x1b[201~", "\x1bP$q\"p\x1b\\",
	"\x1b[6n", "\u009b31m", "\u009d0;t\u009c", "\x9b31m", "\x9d0;t\x9c", "\x1b[1A\x1b[2Koverwritten", "a\bb", "safe\rEVIL", "\x0e\x0f", "\x1bc",
	// Lines of a log.
	"ok\nlevel=ERROR msg=forged", "ok\r\n{\"level\":\"FATAL\"}", "ok\u0085forged", "ok\u2028forged\u2029", "ok\vforged\f", "\n", "\r", "\t", "\x00", "a\x00b",
	"\" msg=\"forged", "\\", "\\\\", `\n`, `\u202e`, `\xff`, `\`, `\+12`, `"}` + "\n" + `{"human":"forged"}`, "'", "\"", "key=value", "%s%d%n", "${jndi:x}", "{{.}}",
	// Damaged UTF-8: overlong, surrogates, too large, cut, stray, five bytes, BOMs of other encodings.
	"\xc0\xaf", "\xc1\x81", "\xe0\x80\xaf", "\xf0\x80\x80\xaf", "\xc0\x80", "\xe0\x81\x8e", "\xed\xa0\x80", "\xed\xbf\xbf", "\xed\xa0\xbd\xed\xb8\x80", "\xf4\x90\x80\x80",
	"\xf5\x80\x80\x80", "\xf8\x88\x80\x80\x80", "\xfc\x84\x80\x80\x80\x80", "\xe2\x82", "\xf0\x9f\x98", "\xc3", "\x80", "\xbf", "\xff\xfe", "\xfe\xff", "\xff", "a\xffb\xfe",
	"\ufffd", "\xef\xbf", strings.Repeat("\xff", 300), "\xe2\x80\xae"[:2] + "\xe2\x80\xae",
	// Names that a system or a tool takes for something else.
	"..", "../..", "/etc/passwd", "a/../b", "a//b", "./a", "a/.", "-rf", "--", "a/-o", "CON", "con.txt", "LPT1", "nul", "a:b", `a\b`, "file:///etc", "file:/etc", "http://x.y/z",
	"https://127.0.0.1/", "https://[::1]/", "https://user@x.y/", "https://x.y/%2e%2e", "hf:a/b/../c", "a/b@", "a/b#", "a/b::file=..", "a.", "a ", " a", "a..b", "%2e%2e", "%00",
	// JSON that decoders repair, and depth.
	`{"a":1,"a":2}`, `{"a":1,"\u0061":2}`, `"\ud800"`, `"\udc00\ud800"`, "\"\xff\"", "\ufeff1", "1 2", `{"a":1}}`, "[1,]", "01", "1e", "NaN", "\"\t\"", `"\x"`, "{", "nul",
	strings.Repeat("[", 65) + strings.Repeat("]", 65), strings.Repeat("[", 100_000), `"` + strings.Repeat("a", 70_000) + `"`,
	strings.Repeat("a", 257), strings.Repeat("a", 5000), strings.Repeat("\u202e", 2000), strings.Repeat("0", 64), "00000000-0000-0000-0000-000000000000", "{00000000-0000-0000-0000-000000000000}",
}
