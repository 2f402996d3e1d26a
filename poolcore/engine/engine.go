// Package engine knows how to start, ask and judge each kind of inference engine.
// It starts nothing itself: package poolcore runs the commands it describes.
//
// A stranger's engine implements [Kind], and [Profiled] where the defaults of
// [ProfileOf] do not fit. Implementations are values without state and safe for
// concurrent use.
package engine

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"time"
)

// Kind describes one sort of engine.
type Kind interface {
	// Name is the word in PoolConfig.Engine.
	Name() string
	// Command returns what to start for one worker. It does no I/O. An error
	// means that the request asks for something this kind cannot do.
	Command(Request) (Command, error)
	// Probe asks a worker how it is, within ctx. An error means that the worker
	// did not answer, or with something that is no answer; a worker that loads
	// answers with Report.Loading.
	Probe(ctx context.Context, ep Endpoint) (Report, error)
	// Classify names why a process ended, one of the Class constants.
	Classify(Exit) string
}

// Profiled is implemented by kinds whose needs differ from the defaults.
type Profiled interface {
	Profile() Profile
}

// Profile says what a kind needs and allows.
type Profile struct {
	// External: there is no process; PoolConfig.URL names a server that somebody
	// else runs.
	External bool
	// ModelFile: the model must be a local file.
	ModelFile bool
	// Flags are the further flags a pool may set; true: the flag takes a value.
	Flags map[string]bool
	// Env are the variables a pool may set.
	Env []string
	// StopGrace is the time between SIGTERM and SIGKILL; 0 is 5 s.
	StopGrace time.Duration
}

// ProfileOf returns the profile of k. The default is a process that reads a model
// file and takes no further flags or variables.
func ProfileOf(k Kind) Profile {
	if p, ok := k.(Profiled); ok {
		return p.Profile()
	}
	return Profile{ModelFile: true}
}

// Request is everything a command line is made of.
type Request struct {
	Binary   string // absolute path
	Model    string // file where Profile.ModelFile, else the model's name
	WorkerID string // the name under which the worker must answer
	Addr     netip.AddrPort
	Ctx      int // tokens per slot
	Slots    int
	KeyFile  string   // absolute path of a file that holds the worker's key
	Flags    []string // checked against the profile: "--name" or "--name=value"
}

// Command is a process to start. There is no shell: each element of Args reaches
// the process as it is.
type Command struct {
	Path string
	Args []string // without the program's name
	Env  []string // further variables, NAME=value
	// TieStdin gives the process a pipe as stdin that the supervisor holds: when
	// the supervisor dies, however it dies, the process reads the end of file.
	TieStdin bool
}

// Endpoint is where and as whom a worker answers.
type Endpoint struct {
	URL    string // scheme, host and port
	Token  string // bearer key; empty: none
	Model  string // the model that an external server must list; empty: any
	Client *http.Client
}

// Report is what an engine says about itself. A nil number is one that the engine
// does not tell.
type Report struct {
	Ready      bool   // loaded and able to take requests
	Loading    bool   // alive, not ready yet
	Detail     string // the engine's own word for its state; a change of it is progress
	Alias      string // the name it answers under; kinds without one leave it empty
	SlotsTotal *int
}

// Exit is how a process ended.
type Exit struct {
	Code     int    // −1 after a signal
	Signal   string // such as "SIGKILL"; empty after an ordinary exit
	Lines    []string
	Uptime   time.Duration
	Answered bool // the health route answered at least once
}

// Errors of Probe and Command.
var (
	// ErrBadAnswer: something answered, but not as this kind of engine does.
	ErrBadAnswer = errors.New("engine: unexpected answer")
	// ErrUnsupported: this kind cannot do what the request asks.
	ErrUnsupported = errors.New("engine: not supported by this kind")
)

// All returns the kinds that come with this module.
func All() []Kind { return []Kind{LlamaCPP{}, External{}, Simulator{}} }
