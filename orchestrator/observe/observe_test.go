package observe_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/llorch/llorch/orchestrator/observe"
)

// namer writes its name for every event.
type namer struct {
	name string
	out  *[]string
}

func (n namer) Observe(e observe.Event) { *n.out = append(*n.out, fmt.Sprintf("%s %T", n.name, e)) }

// TestAllInOrder: every observer hears every event, in the order of the call,
// and nil ones are left out.
func TestAllInOrder(t *testing.T) {
	var got []string
	all := observe.All(nil, namer{"a", &got}, nil, namer{"b", &got})
	all.Observe(observe.Streams{Delta: 1})
	all.Observe(observe.Loop{})
	want := []string{"a observe.Streams", "b observe.Streams", "a observe.Loop", "b observe.Loop"}
	if !slices.Equal(got, want) {
		t.Errorf("heard %q, want %q", got, want)
	}
}

func TestAllOfNone(t *testing.T) {
	observe.All().Observe(observe.StoreOp{})
	observe.All(nil, nil).Observe(observe.StoreOp{})
}

// rejections counts refusals by code.
type rejections map[string]int

func (r rejections) Observe(e observe.Event) {
	if e, ok := e.(observe.Rejected); ok {
		r[e.Code]++
	}
}

func ExampleAll() {
	mine := rejections{}
	o := observe.All(mine, nil) // for orchestrator.Config.Observer
	o.Observe(observe.Rejected{Code: "QUEUE_FULL"})
	o.Observe(observe.Placed{Task: "1"})
	fmt.Println(mine)
	// Output: map[QUEUE_FULL:1]
}
