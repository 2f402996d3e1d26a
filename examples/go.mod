module github.com/llorch/llorch/examples

go 1.26.5

require (
	github.com/llorch/llorch/audit v0.1.0
	github.com/llorch/llorch/authmin v0.1.0
	github.com/llorch/llorch/inputvalidation v0.1.0
	github.com/llorch/llorch/secrets v0.1.0
	github.com/llorch/llorch/narration v0.1.0
	github.com/llorch/llorch/deadline v0.1.0
	github.com/llorch/llorch/gpuinfo v0.1.0
	github.com/llorch/llorch/poolregistry v0.1.0
	github.com/llorch/llorch/poolcore v0.1.0
	github.com/llorch/llorch/orchestrator v0.1.0
	github.com/llorch/llorch/orchestrator/store/sqlite v0.1.0
	github.com/prometheus/client_golang v1.25.0
	pgregory.net/rapid v1.3.0
	github.com/BurntSushi/toml v1.6.0
	golang.org/x/mod v0.42.0
)
