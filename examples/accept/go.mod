// This module keeps what needs other people's programs apart from examples. It
// is never tagged and not in go.work.
module github.com/llorch/llorch/examples/accept

go 1.26.5
