module github.com/llorch/llorch/gpuinfo/nvml

go 1.26.5

require (
	github.com/NVIDIA/go-nvml v0.13.3-0
	github.com/llorch/llorch/gpuinfo v0.1.0
)

require github.com/google/uuid v1.6.0 // indirect
