package narration

import (
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"
)

// Levels beside slog's four.
const (
	LevelTrace slog.Level = -8
	// LevelFatal is for a broken invariant, corruption or a security breach. It
	// never ends the process.
	LevelFatal slog.Level = 12
	// LevelMute as a threshold silences everything; a record of this level is
	// never emitted.
	LevelMute slog.Level = math.MaxInt32
)

// ParseLevel reads TRACE, DEBUG, INFO, WARN, ERROR, FATAL or MUTE in any case,
// each but MUTE also with an offset such as INFO+2.
func ParseLevel(s string) (slog.Level, error) {
	name, offset := s, 0
	if i := strings.IndexAny(s, "+-"); i > 0 {
		n, err := strconv.Atoi(s[i:])
		if err != nil || n < -1000 || n > 1000 {
			return 0, &ConfigError{Field: "Level", Rule: "the offset is not a small number"}
		}
		name, offset = s[:i], n
	}
	levels := map[string]slog.Level{"TRACE": LevelTrace, "DEBUG": slog.LevelDebug, "INFO": slog.LevelInfo, "WARN": slog.LevelWarn, "ERROR": slog.LevelError, "FATAL": LevelFatal, "MUTE": LevelMute}
	l, ok := levels[strings.ToUpper(name)]
	if !ok || l == LevelMute && name != s {
		return 0, &ConfigError{Field: "Level", Rule: "want TRACE, DEBUG, INFO, WARN, ERROR, FATAL or MUTE"}
	}
	return l + slog.Level(offset), nil
}

// levelName names l in output; between the six names slog's way of counting.
func levelName(l slog.Level) string {
	name := func(base slog.Level, s string) string {
		if l == base {
			return s
		}
		return fmt.Sprintf("%s%+d", s, int(l-base))
	}
	switch {
	case l < slog.LevelDebug:
		return name(LevelTrace, "TRACE")
	case l >= LevelFatal:
		return name(LevelFatal, "FATAL")
	}
	return l.String()
}

// ReplaceAttr is for slog.HandlerOptions of a handler given to [New]: it writes
// level names as this package does and calls the message "human".
func ReplaceAttr(groups []string, a slog.Attr) slog.Attr {
	if len(groups) > 0 {
		return a
	}
	switch a.Key {
	case slog.LevelKey:
		if l, ok := a.Value.Any().(slog.Level); ok {
			a.Value = slog.StringValue(levelName(l))
		}
	case slog.MessageKey:
		a.Key = keyHuman
	}
	return a
}
