package engine

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/llorch/llorch/inputvalidation"
)

// Capabilities is what a pool asks for and what its model and devices offer, as
// far as it is known before a start. Empty and 0 are "not known" and fit.
type Capabilities struct {
	Format     string   // of the model: "gguf", "safetensors"
	Ctx        int      // tokens per slot that the pool asks for
	CtxMax     int      // tokens that the model allows
	Quant      string   // quantisation that the pool asks for
	ModelQuant string   // quantisation of the model
	Compute    []string // CUDA compute capability of each device, such as "8.6"
	CPU        bool     // the mask allows no GPU
}

// Subjects of an [IncompatibleError].
const (
	SubjectFormat  = "format"
	SubjectContext = "ctx"
	SubjectQuant   = "quantisation"
	SubjectCompute = "compute_capability"
	SubjectDevice  = "device"
)

// ErrIncompatible is what every [IncompatibleError] matches.
var ErrIncompatible = errors.New("MODEL_INCOMPATIBLE")

// IncompatibleError says why a kind cannot serve a model on these devices.
type IncompatibleError struct {
	Subject  string // one of the Subject constants
	Required string // what is needed
	Offered  string // what there is
}

// Error names subject, required and offered.
func (e *IncompatibleError) Error() string {
	return fmt.Sprintf("%v: %s: required %s, offered %s", ErrIncompatible, e.Subject, e.Required, e.Offered)
}

// Is reports whether target is ErrIncompatible.
func (e *IncompatibleError) Is(target error) bool { return target == ErrIncompatible }

// Check reports everything in which k and c do not fit, joined; each part is an
// [*IncompatibleError].
func Check(k Kind, c Capabilities) error {
	p := ProfileOf(k)
	var errs []error
	bad := func(subject, required, offered string) {
		errs = append(errs, &IncompatibleError{subject, shown(required), shown(offered)})
	}
	if p.Formats != nil && c.Format != "" && !slices.Contains(p.Formats, c.Format) {
		bad(SubjectFormat, strings.Join(p.Formats, " or "), c.Format)
	}
	if c.CtxMax > 0 && c.Ctx > c.CtxMax {
		bad(SubjectContext, strconv.Itoa(c.Ctx), strconv.Itoa(c.CtxMax))
	}
	if c.Quant != "" && c.ModelQuant != "" && !strings.EqualFold(c.Quant, c.ModelQuant) {
		bad(SubjectQuant, c.Quant, c.ModelQuant)
	}
	if c.CPU && p.NeedsGPU {
		bad(SubjectDevice, "gpu", "cpu")
	}
	for _, have := range c.Compute {
		if p.MinCompute != "" && have != "" && !computeAtLeast(have, p.MinCompute) {
			bad(SubjectCompute, p.MinCompute, have)
		}
	}
	return errors.Join(errs...)
}

// shown bounds a word of somebody's configuration or file.
func shown(s string) string { return inputvalidation.EscapeMax(s, 64) }

// computeAtLeast compares "major.minor"; what cannot be read is not enough.
func computeAtLeast(have, want string) bool {
	a, okA := parseCompute(have)
	b, okB := parseCompute(want)
	return okA && okB && (a[0] > b[0] || a[0] == b[0] && a[1] >= b[1])
}

func parseCompute(s string) (v [2]uint64, ok bool) {
	major, minor, _ := strings.Cut(s, ".")
	for i, part := range []string{major, minor} {
		n, err := strconv.ParseUint(part, 10, 16)
		if err != nil {
			return v, false
		}
		v[i] = n
	}
	return v, true
}
