package poolcore_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/llorch/llorch/poolcore"
	"github.com/llorch/llorch/poolcore/engine"
)

func TestNewReportsEveryFault(t *testing.T) {
	_, err := poolcore.New(poolcore.Config{
		NodeID: "bad id", StateDir: "relative", Binaries: map[string]string{"x": "bin/x"}, Ports: poolcore.PortRange{First: 9, Last: 3},
		WorkerBind: netip.IPv4Unspecified(), Engines: []engine.Kind{engine.LlamaCPP{}, engine.LlamaCPP{}},
		Pools: []poolcore.PoolConfig{{ID: "p"}, {ID: "p"}}, Timing: poolcore.Timing{Stall: -1},
	})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"node_id", "state_dir", "binaries", "ports", "advertise_host", "engines", "pools[0]", "pools[1]", "timing"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not named in:\n%v", want, err)
		}
	}
}

// TestPoolConfigIsChecked: allow-lists and ranges; values are never echoed (PCO-10).
func TestPoolConfigIsChecked(t *testing.T) {
	r := newRig(t, func(cfg *poolcore.Config) { cfg.Binaries["llamacpp"] = "/bin/true" })
	llama := func(edit func(*poolcore.PoolConfig)) poolcore.PoolConfig {
		pc := poolcore.PoolConfig{ID: "p", Engine: "llamacpp", Model: "m", ModelPath: "/m.gguf"}
		edit(&pc)
		return pc
	}
	ext := func(url string) poolcore.PoolConfig {
		return poolcore.PoolConfig{ID: "p", Engine: "external", URL: url}
	}
	for name, c := range map[string]struct {
		pc   poolcore.PoolConfig
		want error
	}{
		"id":            {llama(func(p *poolcore.PoolConfig) { p.ID = "../SECRET" }), poolcore.InvalidParams},
		"engine":        {llama(func(p *poolcore.PoolConfig) { p.Engine = "SECRET" }), poolcore.InvalidParams},
		"binary":        {llama(func(p *poolcore.PoolConfig) { p.Binary = "SECRET" }), poolcore.BinaryNotAllowed},
		"replicas":      {llama(func(p *poolcore.PoolConfig) { p.Replicas = 65 }), poolcore.InvalidParams},
		"slots":         {llama(func(p *poolcore.PoolConfig) { p.Slots = -1 }), poolcore.InvalidParams},
		"model":         {llama(func(p *poolcore.PoolConfig) { p.Model = "" }), poolcore.InvalidParams},
		"path":          {llama(func(p *poolcore.PoolConfig) { p.ModelPath = "SECRET" }), poolcore.InvalidParams},
		"path nul":      {llama(func(p *poolcore.PoolConfig) { p.ModelPath = "/SECRET\x00" }), poolcore.InvalidParams},
		"port":          {llama(func(p *poolcore.PoolConfig) { p.Port = 8001; p.Replicas = 2 }), poolcore.InvalidParams},
		"flag":          {llama(func(p *poolcore.PoolConfig) { p.Flags = []string{"--SECRET"} }), poolcore.FlagNotAllowed},
		"owned flag":    {llama(func(p *poolcore.PoolConfig) { p.Flags = []string{"--port=1"} }), poolcore.FlagNotAllowed},
		"smuggled":      {llama(func(p *poolcore.PoolConfig) { p.Flags = []string{"--jinja=--port"} }), poolcore.FlagNotAllowed},
		"swallowed":     {llama(func(p *poolcore.PoolConfig) { p.Flags = []string{"--threads"} }), poolcore.FlagNotAllowed},
		"flag as value": {llama(func(p *poolcore.PoolConfig) { p.Flags = []string{"--threads=--port"} }), poolcore.FlagNotAllowed},
		"flag nul":      {llama(func(p *poolcore.PoolConfig) { p.Flags = []string{"--threads=1\x00"} }), poolcore.FlagNotAllowed},
		"env":           {llama(func(p *poolcore.PoolConfig) { p.Env = map[string]string{"LD_PRELOAD": "SECRET"} }), poolcore.EnvNotAllowed},
		"url":           {llama(func(p *poolcore.PoolConfig) { p.URL = "http://127.0.0.1:1" }), poolcore.InvalidParams},
		"timeouts":      {llama(func(p *poolcore.PoolConfig) { p.StopGraceMS = -1 }), poolcore.InvalidParams},
		"ext scheme":    {ext("file:///SECRET"), poolcore.InvalidParams},
		"ext user":      {ext("http://SECRET@127.0.0.1:1"), poolcore.InvalidParams},
		"ext port":      {ext("http://127.0.0.1"), poolcore.InvalidParams},
		"ext query":     {ext("http://127.0.0.1:1/?SECRET"), poolcore.InvalidParams},
	} {
		_, err := r.Preload(t.Context(), c.pc)
		if !errors.Is(err, c.want) || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%s: %v, want %v without the value", name, err, c.want)
		}
	}
}

// TestExternalIsNeverDialledOutside: the address that is really connected is judged.
func TestExternalIsNeverDialledOutside(t *testing.T) {
	r := newRig(t, func(cfg *poolcore.Config) { cfg.Timing.Stall = 100 * time.Millisecond })
	err := r.preload(poolcore.PoolConfig{ID: "p", Engine: "external", URL: "http://169.254.169.254:80"})
	if !errors.Is(err, poolcore.WorkerStartTimeout) {
		t.Errorf("err = %v, want a start that never gets an answer", err)
	}
}
