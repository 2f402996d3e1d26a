module github.com/llorch/llorch/orchestrator/store/sqlite

go 1.26.5

require (
	github.com/llorch/llorch/orchestrator v0.1.0
	modernc.org/sqlite v1.60.1
	pgregory.net/rapid v1.3.0
)
