package authmin_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"expvar"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"text/template"
	"time"

	"github.com/llorch/llorch/authmin"
)

const canary = "canary-7fQzZ3kLw9XbT2mVnR5cY8pJdH6gS4aE"

// traces are what must not be in any output: every piece of eight bytes of the
// canary as it is, in hex, and in base64 at each of the three alignments.
func traces() (out []string) {
	for i := range len(canary) - 7 {
		piece := []byte(canary[i : i+8])
		out = append(out, string(piece), hex.EncodeToString(piece), strings.ToUpper(hex.EncodeToString(piece)))
	}
	for skip := range 3 {
		aligned := canary[skip : skip+(len(canary)-skip)/3*3]
		for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
			text := enc.EncodeToString([]byte(aligned))
			for i := range len(text) - 11 {
				out = append(out, text[i:i+12]) // about eight bytes
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// leaks reports whether out holds the canary or a piece of it, also in a common
// encoding; URL encoding is undone, and separators between hex digits.
func leaks(out string) bool {
	forms := []string{out, strings.NewReplacer("%", "", " ", "", ":", "", ",", "", "0x", "", `\x`, "").Replace(out)}
	if plain, err := url.PathUnescape(strings.ReplaceAll(out, "%!", "")); err == nil {
		forms = append(forms, plain)
	}
	for _, trace := range traces() {
		if slices.ContainsFunc(forms, func(s string) bool { return strings.Contains(s, trace) }) {
			return true
		}
	}
	return false
}

// What TestNoLeak looks for, it finds.
func TestLeaksFinds(t *testing.T) {
	for name, s := range map[string]string{
		"whole": "a " + canary + " b", "piece": canary[9:17], "end": canary[len(canary)-8:], "hex": fmt.Sprintf("%x", canary), "HEX": fmt.Sprintf("%X", canary[3:13]),
		"spaced hex": fmt.Sprintf("% x", canary[5:15]), "0x": fmt.Sprintf("%#x", canary), "base64": base64.StdEncoding.EncodeToString([]byte(canary)),
		"base64 within": base64.RawURLEncoding.EncodeToString([]byte("Bearer " + canary)), "base64 shifted": base64.StdEncoding.EncodeToString([]byte("ab" + canary)),
		"URL": strings.ReplaceAll(url.QueryEscape("x/"+canary), "a", "%61"), "percent": "%" + strings.Join(strings.Split(hex.EncodeToString([]byte(canary)), ""), ""),
	} {
		if !leaks(s) {
			t.Errorf("%s is not found: %s", name, s)
		}
	}
	for _, s := range []string{"", canary[:7], authmin.FP6(canary), "[token " + authmin.FP6(canary) + "]"} {
		if leaks(s) {
			t.Errorf("%q is taken for a leak", s)
		}
	}
}

// renderings writes v by every way of printing and encoding that refuses or
// redacts.
func renderings(v any) string {
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "% x", "%X", "%#x", "%d", "%b", "%o", "%c", "%e", "%t", "%p", "%100s", "%.99q", "%U", "%T"} {
		fmt.Fprintf(&out, verb+"\n", v)
	}
	fmt.Fprintln(&out, v, &v, []any{v}, map[string]any{"k": v})
	opts := &slog.HandlerOptions{Level: slog.LevelDebug, AddSource: true}
	slog.New(slog.NewTextHandler(&out, opts)).Debug("m", "v", v, slog.Group("g", "v", v))
	slog.New(slog.NewJSONHandler(&out, opts)).Debug("m", "v", v, slog.Group("g", "v", v))
	for _, marshal := range []func(any) ([]byte, error){json.Marshal, xml.Marshal} {
		enc, err := marshal(v)
		fmt.Fprintf(&out, "%s %v\n", enc, err)
	}
	fmt.Fprintln(&out, gob.NewEncoder(&out).Encode(v))
	for _, text := range []string{"{{.}}", `{{printf "%x %s %#v" . . .}}`, "{{range .}}{{.}}{{end}}", "{{js .}} {{html .}} {{urlquery .}}"} {
		fmt.Fprintln(&out, template.Must(template.New("").Parse(text)).Execute(&out, v))
	}
	out.WriteString(expvar.Func(func() any { return v }).String())
	return out.String()
}

// talkative says too much, in an error without a pointer that would hide it
// from fmt.
type talkative struct{}

type talk string

func (t talk) Error() string { return string(t) }

func (talkative) Verify(_ context.Context, t authmin.Token) (authmin.Principal, error) {
	return authmin.Principal{}, talk("backend says no to " + t.Reveal())
}

// outcomes collects all that can be seen of a gate. Values that look alike are
// rendered in all ways only once.
type outcomes struct {
	bytes.Buffer
	seen map[string]bool
}

func (o *outcomes) add(v any) {
	label := regexp.MustCompile("0x[0-9a-f]+").ReplaceAllString(fmt.Sprintf("%T %+v\n", v, v), "0x")
	if o.WriteString(label); !o.seen[label] {
		o.seen[label] = true
		o.WriteString(renderings(v))
	}
}

// TestNoLeak (AUTH-3, AUTH-4, AUTH-27, AUTH-37, G4) drives all outcomes with a
// canary token and searches every output for it.
func TestNoLeak(t *testing.T) {
	out := &outcomes{seen: map[string]bool{}}
	opts := &slog.HandlerOptions{Level: slog.LevelDebug, AddSource: true}
	observe := func(_ context.Context, e authmin.Event) {
		e.At = time.Time{} // alike, as far as secrets go
		out.add(e)
	}
	hook := func(w http.ResponseWriter, r *http.Request, refusal *authmin.Refusal) {
		fmt.Fprintf(w, "%v %+v %v", r.Header, *r, refusal)
		panic(fmt.Sprintf("hook with %v of %+v", refusal, *refusal))
	}
	own := keySet(t, authmin.Key{Name: "own", Token: parsed(t, canary)})
	expired := keySet(t, authmin.Key{Name: "own", Token: parsed(t, canary), NotAfter: time.Now().Add(-time.Hour)})
	other := keySet(t, authmin.Key{Name: "other", Token: authmin.Generate("x")})
	for _, logger := range []*slog.Logger{slog.New(slog.NewTextHandler(out, opts)), slog.New(slog.NewJSONHandler(out, opts))} {
		for _, cfg := range []authmin.Config{
			{Keys: own}, {Keys: other, LoopbackOptional: true}, {LoopbackOptional: true}, {Keys: talkative{}, Answer: hook}, {Keys: talkative{}}, {Keys: expired}, {Keys: expired, Answer: hook},
		} {
			cfg.Logger, cfg.Observe = logger, observe
			gate := newGate(t, cfg)
			allOutcomes(t, out, gate)
			out.add(gate)
			if cfg.Keys != nil {
				out.add(cfg.Keys)
			}
		}
	}
	if n := strings.Count(out.String(), "auth_"); n < 100 || leaks(out.String()) {
		t.Errorf("of %d bytes of output, %d records, some show the token", out.Len(), n)
	}
}

// allOutcomes sends the canary in all ways from all sides.
func allOutcomes(t *testing.T, out *outcomes, gate *authmin.Gate) {
	panicking := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%v %+v", r.Header, *r)
		panic(fmt.Sprintf("handler of %+v", r.Header))
	})
	for _, h := range []http.Handler{gate.Wrap(panicking), gate.WrapStrict(panicking)} {
		for _, field := range []string{"Bearer " + canary, "Bearer " + canary + " x", "bearer  " + canary, "Basic " + canary, canary} {
			for _, c := range []call{
				{},
				{host: "evil.example"},
				{remote: "192.0.2.1:1", local: publicAddr},
				{target: "/health"},
				{target: "/metrics", method: http.MethodHead},
				{method: http.MethodPost, header: http.Header{"Sec-Fetch-Site": {"cross-site"}}},
			} {
				r := c.request(t)
				r.Header.Set("Authorization", field)
				r.Header["proxy-authorization"] = []string{field} // as no server spells it
				w := httptest.NewRecorder()
				func() {
					defer func() { fmt.Fprintln(out, recover()) }()
					h.ServeHTTP(w, r)
				}()
				fmt.Fprintln(out, w.Header(), w.Body)
				p, err := gate.Authorize(r)
				out.add(p)
				if refusal, ok := errors.AsType[*authmin.Refusal](err); ok {
					out.add(refusal)
					out.add(*refusal)
				}
			}
		}
	}
}
