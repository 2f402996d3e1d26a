// Command embed is an orchestrator inside a program of one's own: an admission
// queue, the task API and an OpenAI front over one engine, in one handler. Tasks
// are kept in memory; only callers on this machine are answered.
package main

import (
	"context"
	"errors"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"

	"github.com/llorch/llorch/orchestrator"
	"github.com/llorch/llorch/orchestrator/taskhttp"
	"github.com/llorch/llorch/orchestrator/worker/workertest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	l, err := net.Listen("tcp", "127.0.0.1:8080")
	if err == nil {
		err = serve(ctx, l)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// serve answers on l until ctx ends, then lets running tasks finish.
func serve(ctx context.Context, l net.Listener) error {
	engine := workertest.Start(workertest.Config{Model: "sim-8b"}) // or the URL of your llama.cpp, vLLM or Ollama
	defer engine.Close()
	orc, err := orchestrator.New(orchestrator.Config{Pools: orchestrator.StaticPool("local", engine.URL)})
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: taskhttp.New(taskhttp.Config{Orchestrator: orc})}
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(l) })
	err = orc.Run(ctx) // blocks; when ctx ends it drains
	err = errors.Join(err, srv.Shutdown(context.WithoutCancel(ctx)))
	wg.Wait()
	return err
}
