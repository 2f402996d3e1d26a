package deadline

import "time"

// rfc3339Shape has a 0 where a digit must stand; the rest is literal. Fraction
// and offset follow it.
const rfc3339Shape = "0000-00-00T00:00:00"

// parseRFC3339 accepts what RFC 3339 writes with an upper-case T, an offset of Z
// or ±hh:mm and at most nine fraction digits. The form is checked here, because
// time.Parse is more lenient; it then judges the calendar. The second result is
// the fault, "" if none.
func parseRFC3339(s string) (time.Time, string) {
	const maxLen = len(rfc3339Shape) + len(".123456789") + len("+01:00")
	if len(s) > maxLen {
		return time.Time{}, "too long"
	}
	if !shaped(s, rfc3339Shape) {
		return time.Time{}, "neither Unix milliseconds nor RFC 3339"
	}
	rest := s[len(rfc3339Shape):]
	if rest != "" && rest[0] == '.' {
		n := 1
		for n < len(rest) && rest[n] >= '0' && rest[n] <= '9' {
			n++
		}
		if n < 2 || n > 10 {
			return time.Time{}, "fraction is not 1 to 9 digits"
		}
		rest = rest[n:]
	}
	if rest != "Z" && !offset(rest) {
		return time.Time{}, "offset is neither Z nor ±hh:mm"
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}, "no such date or time"
	}
	if y := t.UTC().Year(); y > 9999 {
		return time.Time{}, "after the year 9999"
	}
	return t, ""
}

// shaped reports whether s begins with shape, a 0 standing for any digit.
func shaped(s, shape string) bool {
	if len(s) < len(shape) {
		return false
	}
	for i := range len(shape) {
		digit := s[i] >= '0' && s[i] <= '9'
		if shape[i] == '0' != digit || !digit && s[i] != shape[i] {
			return false
		}
	}
	return true
}

func offset(s string) bool {
	if len(s) != 6 || !(shaped(s, "+00:00") || shaped(s, "-00:00")) {
		return false
	}
	return s[1:3] < "24" && s[4:6] < "60"
}
