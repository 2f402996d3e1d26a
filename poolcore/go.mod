module github.com/llorch/llorch/poolcore

go 1.26.5

require (
	github.com/llorch/llorch/poolregistry v0.1.0
	github.com/llorch/llorch/gpuinfo v0.1.0
	github.com/llorch/llorch/inputvalidation v0.1.0
	github.com/prometheus/client_golang v1.25.0
	pgregory.net/rapid v1.3.0
)
