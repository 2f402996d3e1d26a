module github.com/llorch/llorch/audit

go 1.26.5

require pgregory.net/rapid v1.3.0
