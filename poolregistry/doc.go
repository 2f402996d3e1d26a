// Package poolregistry is the contract between GPU nodes and the program that
// schedules on them: which nodes exist, what they run, and whom to trust with new
// work. It holds the value types with their JSON forms and an in-memory registry
// with leases and rising epochs.
//
// # Life of a node
//
// The table of transitions; "-" is a node that is not known. A test compares it
// with the code.
//
//	from         event     to
//	-            register  registering
//	registering  register  registering
//	online       register  registering
//	suspect      register  registering
//	offline      register  registering
//	registering  beat      online
//	online       beat      online
//	suspect      beat      online
//	offline      beat      online
//	registering  silent    suspect
//	online       silent    suspect
//	online       refused   suspect
//	suspect      silent    offline
//	offline      forget    removed
//	registering  leave     removed
//	online       leave     removed
//	suspect      leave     removed
//	offline      leave     removed
//
// Every new incarnation, and every return from offline, has a larger epoch: work
// that was sent under a smaller one counts as lost. Whoever sends work notes
// [Node.Epoch] then.
//
// # Freshness
//
// [Evaluate] is the whole rule. Only monotonic time of this process decides;
// nothing that a node says about time does. A node is suspect after SuspectAfter
// and offline after OfflineAfter of silence, exactly on time for every reader of
// [Registry.View], however late the timer is, and at most a second later for
// watchers. Silence that falls into a pause of this process does not count; after
// one, and after a start, nodes get time to be heard. When most nodes fall silent
// together the guard keeps them suspect: the fault is then more likely ours.
//
// # What is not promised
//
// Agreement between registries; durability (beats rebuild the state); honesty of
// a node about its GPUs; protection from a peer that holds both the bearer token
// and a node's lease token; secrecy over plain HTTP. Two registries that both
// start without memory may give one node id the same epoch, if the node left and
// lost its lease file between.
package poolregistry
