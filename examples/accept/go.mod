// This module keeps what needs other people's programs and data apart from
// examples. It is never tagged and not in go.work: run its tests with GOWORK=off.
module github.com/llorch/llorch/examples/accept

go 1.26.5

require (
	github.com/llorch/llorch/inputvalidation v0.1.0
	github.com/llorch/llorch/narration v0.1.0
	github.com/llorch/llorch/secrets v0.1.0
	github.com/minimaxir/big-list-of-naughty-strings/naughtystrings v0.0.0-20210417190545-db33ec7b1d5d
)

require (
	github.com/c2sp/wycheproof v0.0.0-20250901140545-b51abcfb8daf // indirect
	github.com/santhosh-tekuri/jsonschema/v6 v6.0.1 // indirect
	golang.org/x/text v0.14.0 // indirect
)

// The vectors are data. Their module's one package stands here, so that go mod tidy
// keeps the requirement.
tool github.com/c2sp/wycheproof/tools/vectorlint

// The proxy knows this commit by its repository's name, in capital letters; the
// module calls itself by small ones.
replace github.com/c2sp/wycheproof => github.com/C2SP/wycheproof v0.0.0-20250901140545-b51abcfb8daf

replace (
	github.com/llorch/llorch/inputvalidation => ../../inputvalidation
	github.com/llorch/llorch/narration => ../../narration
	github.com/llorch/llorch/secrets => ../../secrets
)
