package narration

import "strings"

const (
	maxStateBytes   = 512
	maxStateMembers = 32
)

// joinState combines the lines of a tracestate header. Anything that breaks the
// W3C grammar drops the whole of it; what is good goes on unchanged and in order.
func joinState(lines []string) string {
	total := 0
	for _, l := range lines {
		total += len(l) + 1
	}
	if total > maxStateBytes+1 {
		return ""
	}
	s := strings.Join(lines, ",")
	seen := make(map[string]bool, 4)
	for member := range strings.SplitSeq(s, ",") {
		member = strings.Trim(member, " \t")
		if member == "" {
			continue // allowed between commas
		}
		key, value, ok := strings.Cut(member, "=")
		if !ok || seen[key] || !stateKey(key) || !stateValue(value) {
			return ""
		}
		seen[key] = true
	}
	if len(seen) == 0 || len(seen) > maxStateMembers {
		return ""
	}
	return s
}

// stateKey checks simple-key and tenant@system.
func stateKey(k string) bool {
	tenant, system, multi := strings.Cut(k, "@")
	first := func(s string, digits bool) bool {
		return s != "" && (s[0] >= 'a' && s[0] <= 'z' || digits && s[0] >= '0' && s[0] <= '9')
	}
	rest := func(s string, limit int) bool {
		return len(s) <= limit && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789_-*/") == ""
	}
	if multi {
		return first(tenant, true) && rest(tenant, 241) && first(system, false) && rest(system, 14)
	}
	return first(k, false) && rest(k, 256)
}

// stateValue checks 1 to 256 printable ASCII characters other than , and =, the
// last one not a blank.
func stateValue(v string) bool {
	if v == "" || len(v) > 256 || v[len(v)-1] == ' ' {
		return false
	}
	for _, c := range []byte(v) {
		if c < ' ' || c > '~' || c == ',' || c == '=' {
			return false
		}
	}
	return true
}
