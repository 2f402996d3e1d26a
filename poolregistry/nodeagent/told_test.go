package nodeagent_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/llorch/llorch/poolregistry/nodeagent"
)

// A node whose beats are refused says so where its operator looks: once, then
// every five minutes, and when they are taken again.
func TestFailingBeatsAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		answers := []any{nil, nil} // the registration and the first beat
		for range 1000 {
			answers = append(answers, errors.New("the orchestrator answers 401"))
		}
		s, _ := play(t, time.Hour, answers, func(c *nodeagent.Config) {
			c.Logger = slog.New(slog.NewTextHandler(&log, nil))
		}, nil)
		if len(s.answers) > 0 {
			t.Fatalf("%d answers are left", len(s.answers))
		}
		from, to := s.at(t, 2), s.at(t, 1001)
		warned, again := strings.Count(log.String(), "level=WARN"), strings.Count(log.String(), "accepted again")
		if want := 1 + int((to-from)/(5*time.Minute)); warned != want || warned < 2 || again != 1 || !strings.Contains(log.String(), "401") {
			t.Errorf("beats failed for %v: %d warnings, want %d; %d times accepted again\n%s", to-from, warned, want, again, &log)
		}
	})
}

// at returns when the n-th request came.
func (s *script) at(t *testing.T, n int) time.Duration {
	t.Helper()
	_, text, _ := strings.Cut(s.asked[n], "@")
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
