package secrets

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
)

const mask = "[REDACTED]"

// errNoEncoding is what encoders get that need bytes, and all decoders: a
// redacted file must not be loaded back as the password "[REDACTED]".
var errNoEncoding = errors.New("secrets: a secret can be neither encoded nor decoded")

// redacted gives Secret and Key the methods that formatters and encoders look for.
type redacted struct{}

// String returns [REDACTED].
func (redacted) String() string { return mask }

// GoString returns [REDACTED].
func (redacted) GoString() string { return mask }

// Format writes [REDACTED] for every verb and flag.
func (redacted) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, mask) }

// LogValue returns [REDACTED].
func (redacted) LogValue() slog.Value { return slog.StringValue(mask) }

// MarshalText returns [REDACTED].
func (redacted) MarshalText() ([]byte, error) { return []byte(mask), nil }

// MarshalJSON returns "[REDACTED]".
func (redacted) MarshalJSON() ([]byte, error) { return []byte(`"` + mask + `"`), nil }

// MarshalBinary fails.
func (redacted) MarshalBinary() ([]byte, error) { return nil, errNoEncoding }

// GobEncode fails.
func (redacted) GobEncode() ([]byte, error) { return nil, errNoEncoding }

// UnmarshalText fails.
func (*redacted) UnmarshalText([]byte) error { return errNoEncoding }

// UnmarshalJSON fails.
func (*redacted) UnmarshalJSON([]byte) error { return errNoEncoding }

// UnmarshalBinary fails.
func (*redacted) UnmarshalBinary([]byte) error { return errNoEncoding }

// GobDecode fails.
func (*redacted) GobDecode([]byte) error { return errNoEncoding }
