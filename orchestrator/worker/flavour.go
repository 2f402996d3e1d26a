package worker

import "net/http"

// flavour is one row of the table of engines (ORC-440): what differs between
// them. Everything else is the common protocol.
type flavour struct {
	name       Flavour
	owner      string // owned_by in /v1/models, by which an engine is recognised
	health     string // "" = /v1/models is the only probe
	props      string // a document with slots and context, "" if the engine has none
	version    string // a document with its version
	repetition string // how it calls Params.RepetitionPenalty; "" = not supported, not sent
	kinds      []Kind // what it can do
	priority   bool   // takes the member priority, if enabled
	cuts       bool   // cuts a prompt that does not fit without a word
}

// flavours is the table; the last row is that of unknown engines. What they can
// not do they answer with 404.
func flavours() []flavour {
	text := []Kind{Completion, Chat, Embedding}
	all := []Kind{Completion, Chat, Embedding, Rerank}
	return []flavour{
		{name: LlamaCPP, owner: "llamacpp", health: "/health", props: "/props", repetition: "repeat_penalty", kinds: all},
		{name: VLLM, owner: "vllm", health: "/health", version: "/version", repetition: "repetition_penalty", kinds: all, priority: true},
		{name: Ollama, owner: "library", version: "/api/version", kinds: text, cuts: true},
		{name: Generic, repetition: "repetition_penalty", kinds: all},
	}
}

// row returns the row of f; unknown names are Generic.
func (f Flavour) row() flavour {
	table := flavours()
	for _, r := range table {
		if r.name == f {
			return r
		}
	}
	return table[len(table)-1]
}

// detect names the engine whose model list says owner.
func detect(owner string) Flavour {
	for _, r := range flavours() {
		if r.owner == owner && owner != "" {
			return r.name
		}
	}
	return Generic
}

// loading reports whether an answer to /health means "not ready yet".
func loading(status int) bool { return status == http.StatusServiceUnavailable }
