# Runs what a developer or a reader wants to run; `make` alone lists it.

SHELL := /bin/bash
# rustup puts cargo where only login shells look.
export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin

.PHONY: help demo demo-down test bench bench-peers fuzz build deps fmt lint

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

demo: deps build ## Bring up two nodes with pods, show them working, leave them running (as root)
	@demo/up
	@demo/tour

demo-down: ## Remove what `make demo` brought up
	@demo/down

test: deps ## Run every test: units, simulations, namespaces, the walk-through, lints, fuzz targets (as root)
	@tests/run

bench: deps ## Measure, in a short form: forwarding beside the kernel's, then the benches (as root)
	cargo build --release -p vrouter-bench --bins
	@bench/forwarding --rounds 5 --seconds 1
	cargo bench -p vrouter-bench --benches -- --warm-up-time 0.5 --measurement-time 1 --noplot

# PARTS="rte_acl latency" runs these alone; `bench/compare-all --list` names them all.
bench-peers: deps ## Measure everything beside the kernel, XDP and DPDK, which are installed, in short forms; results go to target/compare-all (as root)
	@bench/peers/install-deps
	cargo build --release -p vrouter -p vrouter-bench --bins
	@bench/compare-all $(PARTS)

fuzz: deps ## Run each fuzz target for a minute
	@tests/fuzz/run

build: ## Build the programs into target/release
	cargo build --release --workspace --bins

deps: ## Install missing Debian packages (as root) and look for a Rust toolchain
	@demo/install-deps

fmt: ## Format the sources
	cargo fmt --all

lint: ## Check formatting, lints and documentation
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
