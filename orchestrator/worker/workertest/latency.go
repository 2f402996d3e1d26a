package workertest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// Latency is how long an engine takes. The zero value takes no time.
type Latency struct {
	Base    time.Duration // before the first token, whatever the prompt
	Prefill int           // prompt tokens per second; 0 = at once
	Token   time.Duration // between two tokens of a request that runs alone
	Slope   time.Duration // more for every request that runs at the same time, itself included
	Jitter  float64       // share by which each time varies, seeded; 0 to 1
}

// preset returns a timing by its name.
func preset(name string) (Latency, error) {
	us := time.Microsecond
	switch name {
	case "":
		return Latency{Base: 20_000 * us, Prefill: 4_000, Token: 12_000 * us, Slope: 400 * us, Jitter: 0.05}, nil
	case "fast":
		return Latency{Base: 1_000 * us, Prefill: 200_000, Token: 1_000 * us, Slope: 20 * us, Jitter: 0.05}, nil
	case "slow":
		return Latency{Base: 500_000 * us, Prefill: 500, Token: 80_000 * us, Slope: 4_000 * us, Jitter: 0.1}, nil
	case "cpu":
		return Latency{Base: 200_000 * us, Prefill: 60, Token: 120_000 * us, Slope: 40_000 * us, Jitter: 0.1}, nil
	case "h200":
		return Latency{Base: 15_000 * us, Prefill: 25_000, Token: 7_000 * us, Slope: 150 * us, Jitter: 0.05}, nil
	case "zero":
		return Latency{}, nil
	}
	return Latency{}, fmt.Errorf("workertest: Preset: not one of %v", Presets())
}

// Presets returns the names of the timings, besides "", the default.
func Presets() []string { return []string{"fast", "slow", "cpu", "h200", "zero"} }

func (l Latency) validate() error {
	if l.Base < 0 || l.Prefill < 0 || l.Token < 0 || l.Slope < 0 || !(l.Jitter >= 0 && l.Jitter <= 1) {
		return errors.New("workertest: Latency: negative, or Jitter outside 0 to 1")
	}
	return nil
}

// first is the time to the first token of a prompt.
func (l Latency) first(prompt int, r *rand.Rand) time.Duration {
	d := l.Base
	if l.Prefill > 0 {
		d += time.Duration(prompt) * time.Second / time.Duration(l.Prefill)
	}
	return l.vary(d, r)
}

// next is the time between two tokens while batch requests run.
func (l Latency) next(batch int, r *rand.Rand) time.Duration {
	return l.vary(l.Token+time.Duration(batch)*l.Slope, r)
}

func (l Latency) vary(d time.Duration, r *rand.Rand) time.Duration {
	return time.Duration(float64(d) * (1 + l.Jitter*(2*r.Float64()-1)))
}
