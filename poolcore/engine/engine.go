// Package engine knows how to start, ask and judge each kind of inference engine.
// It starts nothing itself: package poolcore runs the commands it describes.
//
// A stranger's engine implements [Kind], and [Profiled] where the defaults of
// [ProfileOf] do not fit; package enginetest has the suite that it must pass.
// Abilities beyond that are small interfaces found by assertion: [Loader],
// [Estimator], [Offloader]. Implementations are values without state and safe for
// concurrent use.
//
// What an engine answers comes from outside: at most 1 MiB of an answer is read,
// redirects are refused, texts are escaped and cut, numbers out of range are left
// out, and no error repeats an answer.
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

// Loader is implemented by kinds whose server loads and unloads models while it
// runs. Both calls wait until the engine is done or ctx ends; loading what is
// loaded and unloading what is not are no errors.
type Loader interface {
	Load(ctx context.Context, ep Endpoint, model string) error
	Unload(ctx context.Context, ep Endpoint, model string) error
}

// Estimator is implemented by kinds whose need of VRAM is not the common rule:
// weights, KV cache, one compute buffer and PerDeviceOverhead per device.
type Estimator interface {
	// EstimateVRAM returns bytes over all devices of r for a model with so many
	// bytes of weights and of KV cache.
	EstimateVRAM(r Request, weights, kv uint64) uint64
}

// Offloader is implemented by kinds that tell in their log, and nowhere else, how
// much of a model is on the GPU.
type Offloader interface {
	// Offloaded reads one line of the log; ok is false for other lines.
	Offloaded(line string) (o Offload, ok bool)
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
	// ModelDir: that "file" is a directory.
	ModelDir bool
	// Flags are the further flags a pool may set; true: the flag takes a value.
	Flags map[string]bool
	// OwnFlags are the flags that Command sets itself or that would undo what it
	// sets. They are refused whatever Flags says.
	OwnFlags []string
	// Env are the variables a pool may set.
	Env []string
	// StopGrace is the time between SIGTERM and SIGKILL; 0 is 5 s.
	StopGrace time.Duration
	// Indices: the engine parses device variables as integers, so that a mask of
	// UUIDs must be written as indices in PCI order and MIG slices are invalid.
	Indices bool
	// NeedsGPU: the kind does not run on a CPU.
	NeedsGPU bool
	// Keyless: the engine cannot ask for a key, so it may bind loopback only
	// unless the operator allows open workers.
	Keyless bool
	// Nameless: the engine's answers cannot carry the worker's name. Report.Alias
	// is empty; that the port belongs to the worker's processes is its identity.
	Nameless bool
	// Formats are the model formats that the kind loads, such as "gguf" and
	// "safetensors"; nil: any.
	Formats []string
	// MinCompute is the lowest CUDA compute capability, such as "7.0"; empty: any.
	MinCompute string
	// PerDeviceOverhead is what a process takes of each device before it loads
	// anything, in bytes.
	PerDeviceOverhead uint64
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
	Key      string   // the same key, for kinds that read it from a variable; never an argument
	Flags    []string // checked against the profile: "--name" or "--name=value"

	// Devices is the worker's mask, one element per device in the mask's order;
	// empty: not known. The device variables are not Command's business.
	Devices []string
	// CPU: the mask allows no GPU.
	CPU bool
	// TensorSplit is one ratio per device, each > 0, together 1; nil: the engine
	// divides as it likes.
	TensorSplit []float64
	// Deterministic asks for equal output on equal input: one sequence at a time,
	// whatever Slots says.
	Deterministic bool
	// KVType is the element type of the KV cache in llama.cpp's words (f16, q8_0,
	// …); empty: the engine's default.
	KVType string
	// VRAMNeed and VRAMTotal are bytes over all devices of the mask: what the
	// worker may take and what there is; 0: not known.
	VRAMNeed, VRAMTotal uint64
	// HomeDir is the worker's private directory, an absolute path.
	HomeDir string
	// ModelsDir is the engine's own store of models, an absolute path, for kinds
	// that keep one; empty: "models" below HomeDir.
	ModelsDir string
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
	URL    string       // scheme, host and port
	Token  string       // bearer key; empty: none
	Model  string       // the model that the server must have; empty: any
	Path   string       // health route of an external server; empty: /health
	Client *http.Client // nil: the default client; redirects are refused with either
}

// Exit is how a process ended.
type Exit struct {
	Code     int      // −1 after a signal
	Signal   string   // such as "SIGKILL"; empty after an ordinary exit
	Lines    []string // the last lines of its log
	Uptime   time.Duration
	Answered bool  // the health route answered at least once
	Asked    bool  // somebody told it to end
	OOMKills int   // processes of its group that the kernel killed for want of memory
	Xids     []int // XID events of its devices since the start
}

// Errors of Probe and Command.
var (
	// ErrBadAnswer: something answered, but not as this kind of engine does.
	ErrBadAnswer = errors.New("engine: unexpected answer")
	// ErrBadEndpoint: the endpoint's URL is none.
	ErrBadEndpoint = errors.New("engine: bad endpoint")
	// ErrUnsupported: this kind cannot do what the request asks.
	ErrUnsupported = errors.New("engine: not supported by this kind")
)

// All returns the kinds that come with this module.
func All() []Kind { return []Kind{LlamaCPP{}, VLLM{}, Ollama{}, External{}, Simulator{}} }
