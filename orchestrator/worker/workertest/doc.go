// Package workertest has the suite's one simulated inference engine, and the
// conformance suite for [worker.Adapter].
//
// [Engine] is an http.Handler that speaks the OpenAI-compatible protocol in the
// dialects of llama.cpp, vLLM, Ollama and of none in particular. Its text is a
// pure function of (model, version, seed, prompt, sampling parameters), its
// timing a small model of prefill and batch, its slots and queue are bounded,
// and it fails in the ways that the grammar of [ParseFault] names. It keeps
// account of every request, so that a test can ask what really reached it.
// There is no neural network in it, and it never pretends to be one: the words
// are drawn from a short list.
//
// It uses ordinary time, so that it runs in virtual time inside a synctest
// bubble; [Net] carries its connections there. [Start] serves on loopback.
package workertest
