package audit_test

import (
	"flag"
	"os"
	"testing"
)

// TestMain keeps the model test short outside the nightly run, and lets the
// test binary play the process that is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("AUDIT_TEST_APPEND_TO"); dir != "" {
		appendForever(dir)
	}
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "rapid.checks" })
	if os.Getenv("LLORCH_NIGHTLY") == "" && !given {
		_ = flag.Set("rapid.checks", "15") // the flag is there: rapid is imported
	}
	os.Exit(m.Run())
}
