// Package poolregistry is the contract between GPU nodes and the program that
// schedules on them: which nodes exist, what they run, and whom to trust with new
// work. It holds the value types with their JSON forms and an in-memory registry
// with leases and rising epochs.
//
// # Life of a node
//
// The table of transitions; "-" is a node that is not known. A pair that is in no
// row changes nothing; to a command it is [IllegalTransition].
//
//	from         event     to
//	-            register  registering
//	registering  register  registering
//	online       register  registering
//	suspect      register  registering
//	offline      register  registering
//	failed       register  registering
//	registering  beat      online
//	online       beat      online
//	suspect      beat      online
//	offline      beat      online
//	failed       beat      failed
//	registering  silent    suspect
//	online       silent    suspect
//	online       refused   suspect
//	suspect      silent    offline
//	registering  fail      failed
//	online       fail      failed
//	suspect      fail      failed
//	failed       clear     registering
//	offline      forget    removed
//	failed       forget    removed
//	registering  leave     removed
//	online       leave     removed
//	suspect      leave     removed
//	offline      leave     removed
//	failed       leave     removed
//	registering  release   removed
//	online       release   removed
//	suspect      release   removed
//	offline      release   removed
//	failed       release   removed
//
// Every new incarnation, every return from offline and every failure that is
// cleared has a larger epoch: work that was sent under a smaller one counts as
// lost. Whoever sends work notes [Node.Epoch] then. A failed node beats and stays
// failed; it is forgotten when it has been silent for long enough.
//
// # Schedule of a node
//
// What an operator wants of a node is a second axis, independent of the first.
// "idle" is the moment at which the scheduler has nothing running there and every
// pool of a beat is idle; "deadline" forces it.
//
//	from         event     to
//	open         cordon    cordoned
//	cordoned     cordon    cordoned
//	open         drain     draining
//	cordoned     drain     draining
//	draining     drain     draining
//	drained      drain     drained
//	draining     idle      drained
//	draining     deadline  drained
//	open         uncordon  open
//	cordoned     uncordon  open
//	draining     uncordon  open
//	drained      uncordon  open
//
// The registry keeps the schedule under the node's id, also while the node is
// away, and the node repeats it when it registers, so that it outlives a restart
// of either; where the two differ, the stricter holds. A node of an engine that
// has no agent is an ordinary node: whoever probes it registers it and beats for
// it.
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
