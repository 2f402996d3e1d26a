package orchestrator_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/llorch/llorch/audit"
	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/placement"
	"github.com/llorch/llorch/orchestrator/store"
	"github.com/llorch/llorch/orchestrator/worker/workertest"
	"github.com/llorch/llorch/poolregistry"
)

// running runs an orchestrator over pools until stop is called.
func running(pools orchestrator.Pools) (o *orchestrator.Orchestrator, stop func()) {
	o, err := orchestrator.New(orchestrator.Config{Pools: pools})
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- o.Run(ctx) }()
	return o, func() {
		cancel()
		if err := <-done; err != nil {
			log.Fatal(err)
		}
	}
}

// until submits until the first worker was found.
func until(o *orchestrator.Orchestrator, p orchestrator.Principal, s orchestrator.Spec) orchestrator.Accepted {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for ctx.Err() == nil {
		if acc, err := o.Submit(ctx, p, s); err == nil {
			return acc
		}
	}
	log.Fatal("no worker within a minute")
	return orchestrator.Accepted{}
}

// A reader that was cut off comes back with the last id that it saw and misses
// nothing.
func ExampleOrchestrator_Events() {
	engine := workertest.Start(workertest.Config{Model: "sim-8b", Preset: "zero"})
	defer engine.Close()
	orc, stop := running(orchestrator.StaticPool("local", engine.URL))
	defer stop()
	ctx := context.Background()
	me := orchestrator.Principal{User: "me", Roles: orchestrator.RoleUser}
	task := until(orc, me, orchestrator.Spec{Model: "sim-8b", Prompt: "Why is the sky blue?", MaxTokens: 3})

	var last uint64
	for e := range orc.Events(ctx, me, task.ID, 0) {
		fmt.Println(e.ID, e.Type)
		if last = e.ID; last == 2 {
			break // the connection broke
		}
	}
	for e := range orc.Events(ctx, me, task.ID, last) {
		fmt.Println(e.ID, e.Type)
	}
	// Output:
	// 1 started
	// 2 token
	// 3 token
	// 4 token
	// 5 end
}

// Two sources as one: engines that already run, and nodes that register.
func ExampleJoin() {
	reg, err := poolregistry.New(poolregistry.Config{PublishEvery: -1})
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	grant, err := reg.Register(ctx, poolregistry.Registration{
		NodeID: "gpu-1", InstanceID: "6f1b4c1e-52a1-4f0e-9f8e-0d4d5c5f7a10", InProcess: true, Pools: []poolregistry.Pool{{ID: "chat"}},
	})
	if err != nil {
		log.Fatal(err)
	}
	_, err = reg.Beat(ctx, poolregistry.Beat{NodeID: "gpu-1", LeaseToken: grant.LeaseToken, Seq: 1, Pools: []poolregistry.Pool{{
		ID: "chat", State: "ready", Ready: true, SlotsFree: 8, SlotsTotal: 8,
		Workers: []poolregistry.Worker{{ID: "chat-r0-5f3b1c", Status: "ready", URL: "http://10.0.0.7:9000", ModelRef: "llama3:8b", Engine: "vllm", SlotsFree: 8, SlotsTotal: 8}},
	}}})
	if err != nil {
		log.Fatal(err)
	}
	engine := workertest.Start(workertest.Config{Model: "sim-8b", Slots: 2})
	defer engine.Close()

	pools := orchestrator.Join(orchestrator.FromRegistry(reg), orchestrator.Static(orchestrator.Engine{Name: "desk", URL: engine.URL}))
	for list := range pools.Watch(ctx) {
		if len(list) < 2 {
			continue // one of the sources has not spoken yet
		}
		for _, w := range list {
			fmt.Println(w.Key, w.Models, w.SlotsTotal, w.Ready)
		}
		break
	}
	// Output:
	// gpu-1/chat/chat-r0-5f3b1c [llama3:8b] 8 true
	// static/desk/r0 [sim-8b] 2 true
}

// A task that waits says what it waits for.
func ExampleOrchestrator_Explain() {
	full := &placement.Worker{
		Key: placement.Key{Node: "gpu-1", Pool: "chat", Worker: "r0"}, Models: []string{"llama3:8b"}, SlotsTotal: 4, SlotsBusy: 4, Online: true, Ready: true,
	}
	orc, stop := running(fixed{full})
	defer stop()
	me := orchestrator.Principal{User: "me", Roles: orchestrator.RoleUser}
	task := until(orc, me, orchestrator.Spec{Model: "llama3:8b", Prompt: "Why is the sky blue?"})

	why, err := orc.Explain(context.Background(), me, task.ID)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s: %s\n", why.Reason, why.Words)
	// Output:
	// slot: Every slot of the workers that serve the model is taken; the task starts when one is free.
}

// One key store for audit and orchestrator: who erases a person destroys one
// key, and nothing that was sealed under it opens again.
func ExampleNewSubjectKeys() {
	ctx := context.Background()
	st := store.NewMemory()
	if _, err := st.Lead(ctx, store.LeaseRequest{Holder: "local"}); err != nil {
		log.Fatal(err)
	}
	keys := orchestrator.NewSubjectKeys(st, [][]byte{[]byte("0123456789abcdef0123456789abcdef")})
	_, before, err := keys.Key(ctx, "acme/eve")
	if err != nil {
		log.Fatal(err)
	}
	if err := keys.Destroy(ctx, "acme/eve"); err != nil {
		log.Fatal(err)
	}
	_, _, err = keys.(audit.KeyFinder).Find(ctx, "acme/eve", before)
	fmt.Println(err)
	_, after, err := keys.Key(ctx, "acme/eve")
	fmt.Println(before == after, err)
	// Output:
	// audit: no such subject key
	// false <nil>
}
