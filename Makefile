# What people and CI call; the work is in cargo and in scripts/.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.PHONY: help demo test gen lint bench build kube-test cluster cluster-down image e2e clean

help: ## this list
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: ## Bookinfo with a sidecar each and a gateway; edit a YAML file and watch
	@. scripts/need.sh && need rust && cargo build --quiet --bins && exec cargo run --quiet -p sluice-demo --bin bookinfo -- up $(if $(DIR),--dir $(DIR))

test: ## everything that can fail: format, lints, units, corpus, processes, Envoy, a real API server
	@scripts/test.sh

gen: ## write crds/, the chart's copy of it and tables in docs/ from the sources
	@cargo run --quiet -p sluice-xtask -- gen

lint: ## format and clippy, warnings are errors
	@cargo fmt --all --check
	@cargo clippy --workspace --all-targets --quiet -- -D warnings

bench: ## data plane against its peers, control plane against its targets
	@scripts/bench.sh

build: ## release programs
	@cargo build --release --bins

kube-test: ## only the suite on a real kube-apiserver
	@scripts/test.sh kube

cluster: ## one real Kubernetes node on this machine, without Docker (needs root); prints its KUBECONFIG
	@scripts/cluster-up.sh

cluster-down: ## ends that node; nothing of it stays
	@scripts/cluster-down.sh

image: ## target/images/*.tar for kind, containerd and podman, without a Docker daemon
	@scripts/image.sh

e2e: ## the whole in a real cluster: Helm, sidecars, mTLS, the tutorials, restarts under load (KUBECONFIG: yours)
	@scripts/e2e.sh $(MODE)

clean: ## what was built; the cache of Kubernetes and Envoy stays
	@cargo clean
