package worker

import "net/http"

// flavour is one row of the table of engines (ORC-440): what differs between
// them. Everything else is the common protocol.
type flavour struct {
	owner      string // owned_by in /v1/models, by which an engine is recognised
	health     string // "" = /v1/models is the only probe
	props      string // a document with slots and context, "" if the engine has none
	version    string // a document with its version
	repetition string // how it calls Params.RepetitionPenalty; "" = not supported, not sent
}

// row returns the row of f; unknown names are Generic.
func (f Flavour) row() flavour {
	switch f {
	case LlamaCPP:
		return flavour{owner: "llamacpp", health: "/health", props: "/props", repetition: "repeat_penalty"}
	case VLLM:
		return flavour{owner: "vllm", health: "/health", version: "/version", repetition: "repetition_penalty"}
	case Ollama:
		return flavour{owner: "library", version: "/api/version"}
	}
	return flavour{repetition: "repetition_penalty"}
}

// detect names the engine whose model list says owner.
func detect(owner string) Flavour {
	for _, f := range []Flavour{LlamaCPP, VLLM, Ollama} {
		if f.row().owner == owner {
			return f
		}
	}
	return Generic
}

// loading reports whether an answer to /health means "not ready yet".
func loading(status int) bool { return status == http.StatusServiceUnavailable }
