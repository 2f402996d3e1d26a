package assemble

import (
	"io"
	"log/slog"
	"os"

	"github.com/llorch/llorch/narration"
)

// NewNarrator makes the program's log: console form on a terminal, JSON
// elsewhere; format "text" or "json" decides otherwise.
func NewNarrator(w io.Writer, format string, level slog.Level, service, version string) (*narration.Narrator, error) {
	c := narration.Config{Service: service, Version: version, Level: level}
	if format == "json" || format != "text" && !terminal(w) {
		return narration.NewJSON(w, c)
	}
	c.Color = terminal(w) && os.Getenv("NO_COLOR") == ""
	return narration.NewConsole(w, c)
}

// terminal reports whether w is a character device.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
