package config_test

import (
	"fmt"
	"io/fs"

	"github.com/llorch/llorch/examples/internal/config"
)

// noFile is a computer without any configuration file.
func noFile(name string) ([]byte, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

func ExampleLoad() {
	env := []string{"HOME=/home/ada", "ORCHESTRATORD_NODE_TIMEOUT_SECS=60", "ORCHD_ADMISSION_CAPACITY="}
	r, err := config.Load(config.Orchestratord, []string{"--engines", "local=http://127.0.0.1:11434"}, env, noFile)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(r.Pairs("engines"), r.Duration("node_timeout_secs"), r.Int("admission_capacity"), r.String("store"))
	// Output: [{local http://127.0.0.1:11434}] 1m0s 100 sqlite:/home/ada/.local/state/llorch/llorch.db
}

func ExampleLoad_faults() {
	env := []string{"HOME=/home/ada", "ORCHESTRATORD_NODE_TIMEOUT_SEC=60", "AUTH_OPTIONAL=yes"}
	_, err := config.Load(config.Orchestratord, []string{"--node-timeout-secs", "soon", "--admision-policy=reject"}, env, noFile)
	fmt.Println(err)
	fmt.Println(config.ExitCode(err))
	// Output:
	// "--admision-policy" (flag): want a flag that orchestratord knows; did you mean --admission-policy?
	// ORCHESTRATORD_NODE_TIMEOUT_SEC (env): want a variable of docs/configuration.md; did you mean ORCHESTRATORD_NODE_TIMEOUT_SECS?
	// AUTH_OPTIONAL = "yes" (env AUTH_OPTIONAL): want true or false; mend it, or remove it for the default true
	// --node-timeout-secs = "soon" (flag): want an integer from 3 to 300; mend it, or remove it for the default 30
	// 78
}
