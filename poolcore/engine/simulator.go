package engine

import (
	"context"
	"slices"
)

// Simulator is the suite's simulated engine: it speaks like llama-server, needs no
// GPU and no model file, and exits when its supervisor dies.
type Simulator struct {
	// Args come first on the command line, for programs that carry the engine
	// inside themselves behind a word of their own.
	Args []string
}

var (
	_ Kind     = Simulator{}
	_ Profiled = Simulator{}
)

// Name returns "simulator".
func (Simulator) Name() string { return "simulator" }

// Profile allows the flags that shape its speed and its faults.
func (Simulator) Profile() Profile {
	return Profile{
		Flags: map[string]bool{
			"--fault": true, "--request-faults": false, "--preset": true, "--seed": true, "--load-delay": true,
		},
		OwnFlags: llamaOwnFlags(),
	}
}

// Command returns the engine with its stdin tied to the supervisor.
func (s Simulator) Command(r Request) (Command, error) {
	args := slices.Concat(s.Args, serverArgs(r), []string{"--exit-with-stdin"}, splitFlags(r.Flags))
	return Command{Path: r.Binary, Args: args, TieStdin: true}, nil
}

// Probe asks as LlamaCPP does.
func (Simulator) Probe(ctx context.Context, ep Endpoint) (Report, error) {
	return answered(probeLlamaServer(ctx, ep))
}

// Classify applies the common patterns.
func (Simulator) Classify(e Exit) string { return classify(e, llamaPatterns()) }
