// Package authmin puts a closed door before a small HTTP service: bearer
// tokens, a bind policy and a gate, without a framework.
//
// It answers four questions that such services get wrong: may this process
// listen on that address without a token ([BindPolicy]); does this request
// carry exactly one well-formed bearer token ([FromRequest]); is it one of the
// live tokens ([KeySet], also from a file by [ParseKeys]); who is it, in words
// that can be logged ([Principal]). A [Gate] asks all of them for each request;
// a [Transport] is the other side.
//
// # Policy
//
// No listener that other machines can reach starts without a token. A request
// reaches the handler only as a verified principal, as a strictly local caller
// (peer and listener on loopback, a loopback Host, no trace of a proxy), or on
// an open path. On doubt the answer is refusal: a failing verifier, an address
// or a name that cannot be understood never widen access. Use on loopback
// without a token stays safe against web pages in a browser of the same
// machine: Host is checked against DNS rebinding, Origin against cross-origin
// requests. A set of keys is never empty, so an emptied secret file neither
// opens the gate nor locks it.
//
// # Threat model
//
// The attackers are: a scanner in the network; a client that guesses tokens and
// measures time; a web page in a local user's browser; a client behind a proxy
// that forwards to loopback; a server that redirects in order to collect
// tokens; a reader of logs; an operator who configures a weak, empty, truncated
// or duplicated token.
//
// # Secrets
//
// A [Token] prints as "[token <fp6>]" with every verb and encoder, also inside
// other values; [Token.Reveal] is the only way out. The fp6 is the first six
// hexadecimal digits of the SHA-256: a label for logs, never an identity. Two
// of 100 tokens share one with a probability of 0.03 %, of 1,000 with 2.9 %, of
// 10,000 with 95 %. Tokens are compared in constant time over digests of fixed
// length, and every key is compared, so time tells neither content nor length
// of a configured token nor the position of the matching key. Below what the
// statistical test of this package can see, nothing is promised.
//
// # Limits
//
// Memory is bounded whatever clients send: the gate keeps no table of clients.
// Guessing a token of 256 bits is pointless, so clients are not limited in
// rate; only the logging of failures is: ten of a minute are shown, the rest is
// counted.
//
// # Not promised
//
// Confidentiality on plaintext links; protection from root or the same user;
// users, roles, OAuth or JWT; protection of a stolen token before it is
// rotated out; tokens that callers copied with Reveal; more than one proxy in
// a row, and the Forwarded field, when the client's address is logged.
//
// The package reads no environment variable and has no global state.
package authmin
