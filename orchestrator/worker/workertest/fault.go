package workertest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Fault is one way to misbehave, written kind[:arg][@when[,when…]]. All its
// conditions must hold:
//
//	token=N     after N tokens were sent (0: after the header); only kinds that break a stream
//	request=N   only the N-th request for work, from 1
//	after=5s    only requests that arrive that long after the start
//	p=0.01      only this share of requests, drawn by the seed
//
// Kinds: see [Kinds]. Durations are those of Go; "retry-after" takes seconds.
type Fault struct {
	Kind    string
	Arg     string
	Token   int // -1 = not said
	Request int64
	After   time.Duration
	P       float64 // 0 = not said
}

// kind is one row of the table of faults.
type kind struct {
	arg   argument
	dflt  string // the argument if there is none
	token int    // where it strikes if token is not said; notToken = it takes none
}

type argument int

const (
	noArg     argument = iota
	anyArg             // judged by the hook
	duration           // a positive duration
	status             // 400 to 599
	seconds            // 0 to 3,600
	cutOrNone          // "" or "cut"
)

const (
	notToken     = -2 // strikes where the kind says
	beforeHeader = -1
)

// kinds is the closed table of faults.
func kinds() map[string]kind {
	return map[string]kind{
		"refuse":        {token: notToken},                             // stop listening, for good
		"reset":         {token: beforeHeader},                         // break the connection
		"truncate":      {token: 1},                                    // end cleanly inside a frame
		"stall":         {token: 1},                                    // fall silent, keep the connection
		"slow-start":    {arg: duration, dflt: "5s", token: notToken},  // late first token
		"slow-headers":  {arg: duration, dflt: "5s", token: notToken},  // late header
		"trickle":       {arg: duration, dflt: "1ms", token: notToken}, // 16 bytes at a time, slowly
		"split":         {token: notToken},                             // one byte at a time
		"status":        {arg: status, dflt: "500", token: notToken},   // answer with a status
		"retry-after":   {arg: seconds, dflt: "1", token: notToken},    // 429 with Retry-After
		"bad-json":      {token: 1},                                    // a frame that is no JSON
		"bad-utf8":      {arg: cutOrNone, token: 1},                    // a byte that is no UTF-8; cut: a rune over two frames
		"long-line":     {token: 1},                                    // a line of more than 1 MiB
		"stream-error":  {token: 1},                                    // an error object inside a 200
		"no-done":       {token: notToken},                             // leave [DONE] out
		"after-done":    {token: notToken},                             // frames after [DONE]
		"duplicate":     {token: 1},                                    // a frame comes twice
		"content-type":  {token: notToken},                             // text/html
		"endless":       {token: notToken},                             // never end, whatever max_tokens says
		"ignore-cancel": {token: notToken},                             // work on when the client is gone
		"exit":          {arg: anyArg, dflt: "1", token: beforeHeader}, // hook: the process ends with this code or signal
		"oom":           {token: beforeHeader},                         // hook: the process dies of memory
		"leak-vram":     {token: beforeHeader},                         // hook: its VRAM is never given back
		"health-lies":   {token: notToken},                             // probes say ready, work says loading
		"wrong-model":   {token: notToken},                             // it lists another model than the one it should serve
	}
}

// Kinds returns the names of all faults, sorted.
func Kinds() []string { return slices.Sorted(maps.Keys(kinds())) }

// ParseFault reads one fault. An unknown kind's error lists all.
func ParseFault(s string) (Fault, error) {
	head, when, _ := strings.Cut(s, "@")
	f := Fault{Token: -1}
	f.Kind, f.Arg, _ = strings.Cut(head, ":")
	k, ok := kinds()[f.Kind]
	if !ok {
		return Fault{}, fmt.Errorf("workertest: unknown fault; there are: %s", strings.Join(Kinds(), " "))
	}
	if f.Arg == "" {
		f.Arg = k.dflt
	}
	if strings.Contains(s, "@") {
		for cond := range strings.SplitSeq(when, ",") {
			if err := f.condition(cond); err != nil {
				return Fault{}, fmt.Errorf("workertest: fault %s: %w", f.Kind, err)
			}
		}
	}
	return f, f.validate()
}

// ParseFaults reads any number of faults with blanks or semicolons between.
func ParseFaults(s string) ([]Fault, error) {
	var list []Fault
	for one := range strings.FieldsFuncSeq(s, func(r rune) bool { return r == ' ' || r == ';' }) {
		f, err := ParseFault(one)
		if err != nil {
			return nil, err
		}
		list = append(list, f)
	}
	return list, nil
}

func (f *Fault) condition(s string) error {
	name, value, _ := strings.Cut(s, "=")
	var err error
	switch name {
	case "token":
		var n uint64
		n, err = strconv.ParseUint(value, 10, 31)
		f.Token = int(n)
	case "request":
		f.Request, err = strconv.ParseInt(value, 10, 64)
		if err == nil && f.Request < 1 {
			err = strconv.ErrRange
		}
	case "after":
		f.After, err = time.ParseDuration(value)
		if err == nil && f.After <= 0 {
			err = strconv.ErrRange
		}
	case "p":
		f.P, err = strconv.ParseFloat(value, 64)
		if err == nil && !(f.P > 0 && f.P <= 1) {
			err = strconv.ErrRange
		}
	default:
		return errors.New("a condition is not one of token, request, after, p")
	}
	if err != nil {
		return fmt.Errorf("%s has no valid value", name)
	}
	return nil
}

// String returns the fault as [ParseFault] reads it.
func (f Fault) String() string {
	s := f.Kind
	if f.Arg != "" {
		s += ":" + f.Arg
	}
	sep := "@"
	add := func(name, value string) {
		s += sep + name + "=" + value
		sep = ","
	}
	if f.Token >= 0 {
		add("token", strconv.Itoa(f.Token))
	}
	if f.Request > 0 {
		add("request", strconv.FormatInt(f.Request, 10))
	}
	if f.After > 0 {
		add("after", f.After.String())
	}
	if f.P > 0 {
		add("p", strconv.FormatFloat(f.P, 'g', -1, 64))
	}
	return s
}

// validate checks a fault, also one that no parser made.
func (f Fault) validate() error {
	k, ok := kinds()[f.Kind]
	if !ok {
		return fmt.Errorf("workertest: unknown fault; there are: %s", strings.Join(Kinds(), " "))
	}
	if k.token == notToken && f.Token >= 0 {
		return fmt.Errorf("workertest: fault %s: takes no condition token", f.Kind)
	}
	if f.Token < -1 || f.Request < 0 || f.After < 0 || !(f.P >= 0 && f.P <= 1) {
		return fmt.Errorf("workertest: fault %s: a condition is out of range", f.Kind)
	}
	var err error
	good := true
	switch k.arg {
	case noArg:
		good = f.Arg == ""
	case duration:
		var d time.Duration
		d, err = time.ParseDuration(f.Arg)
		good = d > 0
	case status:
		var n int
		n, err = strconv.Atoi(f.Arg)
		good = n >= 400 && n <= 599
	case seconds:
		var n int
		n, err = strconv.Atoi(f.Arg)
		good = n >= 0 && n <= 3600
	case cutOrNone:
		good = f.Arg == "" || f.Arg == "cut"
	case anyArg:
		good = f.Arg != "" && !strings.ContainsAny(f.Arg, "@ ;")
	}
	if err != nil || !good {
		return fmt.Errorf("workertest: fault %s: its argument is not valid", f.Kind)
	}
	return nil
}

// duration returns the argument of a kind that takes one.
func (f Fault) duration() time.Duration {
	d, err := time.ParseDuration(f.Arg)
	if err != nil {
		panic("workertest: a fault that was not validated")
	}
	return d
}

// number returns the argument of a kind that takes one.
func (f Fault) number() int {
	n, err := strconv.Atoi(f.Arg)
	if err != nil {
		panic("workertest: a fault that was not validated")
	}
	return n
}
