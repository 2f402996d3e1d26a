# Every target runs over all modules, in ORDER where it matters (leaves first); `make` lists them. NVIDIA's headers deprecate what NVML still needs.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --warn-undefined-variables --no-builtin-rules
.DEFAULT_GOAL := help
PREFIX   := github.com/llorch/llorch
VERSION  := v0.1.0
FUZZTIME ?= 30s
export CGO_CFLAGS := -O2 -g -Wno-deprecated-declarations
ORDER := audit authmin inputvalidation secrets narration deadline gpuinfo gpuinfo/nvml poolregistry poolcore orchestrator orchestrator/store/sqlite examples
staticcheck := go run honnef.co/go/tools/cmd/staticcheck@v0.8.0
gofumpt     := go run mvdan.cc/gofumpt@v0.10.0
# A user's view: no workspace, a proxy of this tree; goindex=0, since the tree changes under one version.
cache   := $(CURDIR)/.cache
outside := GOWORK=off GODEBUG=goindex=0 GOFLAGS='$(shell go env GOFLAGS) -mod=mod -modcacherw' GOMODCACHE=$(cache)/mod GONOSUMDB='$(PREFIX)/*' \
	GOPROXY=file://$(cache)/proxy,file://$(shell go env GOMODCACHE)/cache/download,$(shell go env GOPROXY)
foreign := cd examples/accept && GOWORK=off go
publish := rm -rf $(cache)/proxy $(cache)/mod/$(PREFIX) $(cache)/mod/cache/download/$(PREFIX) && \
	go run ./examples/internal/modproxy -o $(cache)/proxy -version $(VERSION)
unsum   := sed -i '\|^$(PREFIX)/|d'
.PHONY: help run test race lint tidy alone bench accept nightly
help: ## Show this list
	@sed -nE 's/^([a-z]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

run: ## Start the demo and print its address
	go run ./examples/cmd/llorch-demo

test: ## Run every test, and foreign test vectors
	go test work && $(foreign) test ./...

race: ## Run the shorter tests with the race detector
	go test -race -short work

lint: ## go vet, staticcheck, formatting, modern idioms
	go vet work && $(foreign) vet ./...
	$(staticcheck) work
	@list=$$($(gofumpt) -l $(ORDER) examples/accept/foreign); [ -z "$$list" ] || { echo "not formatted:" $$list >&2; exit 1; }
	go fix -diff work

tidy: ## go mod tidy in dependency order, siblings resolved to this tree
	@for m in $(ORDER); do touch $$m/go.sum && $(unsum) $$m/go.sum && $(publish) && \
		(cd $$m && env $(outside) go mod tidy && touch go.sum && $(unsum) go.sum && { [ -s go.sum ] || rm go.sum; }); done

alone: ## Vet and test each module outside the workspace, as its users get it
	@$(publish)
	@for m in $(ORDER); do echo "-- $$m" && rm -rf $(cache)/m && cp -r $$m $(cache)/m && (cd $(cache)/m && \
		env $(outside) go vet ./... && env $(outside) go test -short ./...); done

bench: ## Run every benchmark once
	go test -run '^$$' -bench . -benchmem work

accept: ## Run npm's OpenAI client against the demo; needs npm
	go build -o bin/ ./examples/cmd/llorch-demo
	cd examples/accept/openaijs && npm ci && LLORCH_DEMO=$(CURDIR)/bin/llorch-demo npm test

nightly: ## The long tests: more checks, more crashes, every fuzz target for FUZZTIME
	LLORCH_NIGHTLY=1 RAPID_CHECKS=2000 go test -timeout 2h work
	@grep -rnoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' $(ORDER) | sed -nE 's|^(.*)/[^/]+:[0-9]+:func (.*)|\1 \2|p' | sort -u | \
		while read -r d f; do echo "-- $$d $$f" && (cd $$d && go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) . </dev/null); done
