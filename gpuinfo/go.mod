module github.com/llorch/llorch/gpuinfo

go 1.26.5

require pgregory.net/rapid v1.3.0
