module github.com/llorch/llorch/narration

go 1.26.5

require pgregory.net/rapid v1.3.0
