// Package narrationtest captures what a test's code narrates.
package narrationtest

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/llorch/llorch/narration"
)

// Record is one captured record.
type Record struct {
	Level  slog.Level
	Time   time.Time
	Human  string
	Raw    string         // the JSON line as it was written
	Fields map[string]any // everything at the root and, under dotted keys, in groups
}

// Field returns the field of that key, and whether there is one.
func (r Record) Field(key string) (any, bool) {
	v, ok := r.Fields[key]
	return v, ok
}

// Outcome returns the field outcome, "" if there is none.
func (r Record) Outcome() string {
	s, _ := r.Fields["outcome"].(string)
	return s
}

// Recorder collects records. It may be used from several goroutines.
type Recorder struct {
	mu      sync.Mutex
	records []Record
}

// Capture returns a Narrator at LevelTrace that writes into a Recorder. The first
// of c, if any, is its configuration. What was captured is logged if t fails.
func Capture(t testing.TB, c ...narration.Config) (*narration.Narrator, *Recorder) {
	t.Helper()
	cfg := narration.Config{Service: "test", Version: "v0", Instance: "test"}
	if len(c) > 0 {
		cfg = c[0]
	}
	if cfg.Level == nil {
		cfg.Level = narration.LevelTrace
	}
	r := &Recorder{}
	n, err := narration.NewJSON(r, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, rec := range r.All() {
				t.Log(strings.TrimSuffix(rec.Raw, "\n"))
			}
		}
	})
	return n, r
}

// Write takes one line of [narration.NewJSON].
func (r *Recorder) Write(line []byte) (int, error) {
	rec := Record{Raw: string(line), Fields: map[string]any{}}
	var root map[string]any
	if err := json.Unmarshal(line, &root); err != nil {
		return 0, err
	}
	flatten(rec.Fields, "", root)
	rec.Human, _ = root["human"].(string)
	if s, ok := root["time"].(string); ok {
		rec.Time, _ = time.Parse(time.RFC3339Nano, s)
	}
	if s, ok := root["level"].(string); ok {
		rec.Level, _ = narration.ParseLevel(s)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records = append(r.records, rec)
	return len(line), nil
}

func flatten(into map[string]any, prefix string, m map[string]any) {
	for k, v := range m {
		if group, ok := v.(map[string]any); ok {
			flatten(into, prefix+k+".", group)
			continue
		}
		into[prefix+k] = v
	}
}

// All returns the records so far, in the order of writing.
func (r *Recorder) All() []Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.records)
}

// One returns the only record of that action; t fails if there is none or there
// are several.
func (r *Recorder) One(t testing.TB, a narration.Action) Record {
	t.Helper()
	var found []Record
	for _, rec := range r.All() {
		if rec.Fields["action"] == string(a) {
			found = append(found, rec)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d records of action %s, want 1", len(found), a)
	}
	return found[0]
}

// NoSecrets fails t if a record holds one of secrets: as it is, or in base64, hex
// or URL form.
func (r *Recorder) NoSecrets(t testing.TB, secrets ...string) {
	t.Helper()
	for i, secret := range secrets {
		b := []byte(secret)
		for form, text := range map[string]string{
			"plain": secret, "hex": hex.EncodeToString(b), "base64": base64.RawStdEncoding.EncodeToString(b),
			"base64url": base64.RawURLEncoding.EncodeToString(b), "URL": url.QueryEscape(secret),
		} {
			for _, rec := range r.All() {
				if text != "" && strings.Contains(rec.Raw, text) {
					t.Errorf("secret %d occurs in %s form in a record %q", i, form, rec.Level)
				}
			}
		}
	}
}
