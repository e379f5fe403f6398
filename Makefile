# Everything that is done to this project, by one word each. `make help` lists them.
#
# One set of flags, features and profiles everywhere: a build of one target is never thrown
# away by the next. The first build compiles OpenSSL and librdkafka; later ones do not.

SHELL := /bin/sh
.DEFAULT_GOAL := help
# The targets share one cargo build folder, which cargo locks anyway.
.NOTPARALLEL:

CARGO ?= cargo
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/doorward
DOORWARD_TOOLS ?= $(CACHE)/tools
export DOORWARD_TOOLS

SERVICES := $(DOORWARD_TOOLS)/services.env

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

.PHONY: demo
demo: ## The whole product on this machine, nothing to install: prints one address
	$(CARGO) run --release --locked -- demo

.PHONY: demo-once
demo-once: ## The demo's attacks and answers once, as a table; fails if one went unseen
	$(CARGO) run --release --locked -- demo --once

.PHONY: test
test: ## Every test that needs only Rust, a C compiler, make and perl
	$(CARGO) test --locked

# Minutes of work that `make test` has done, and that no service changes.
NEED_NONE := simulation:: model:: bounded:: recoveries::

.PHONY: test-services
test-services: services ## The integration tests with real Kafka, SMTP, promtool and Chromium, none skipped for want of them
	. '$(SERVICES)' && DOORWARD_REQUIRE_SERVICES=1 \
		ci/tell.sh $(CARGO) test --locked --test it -- $(NEED_NONE:%=--skip %)

SOAK_MINUTES ?= 30

.PHONY: soak
soak: services ## Random failures of a real cluster for SOAK_MINUTES, nothing lost, nothing twice
	. '$(SERVICES)' && SOAK_MINUTES='$(SOAK_MINUTES)' DOORWARD_REQUIRE_SERVICES=1 \
		$(CARGO) test --locked --test it -- --ignored --exact --nocapture failures::soak::soak

SEEDS ?= 100000

.PHONY: simulate
simulate: ## SEEDS histories on the simulated cluster; the first that fails is printed, made short
	DOORWARD_SEEDS='$(SEEDS)' $(CARGO) test --release --locked --test it -- \
		--exact --nocapture simulation::whatever_happens_nothing_is_lost_and_nothing_comes_twice

.PHONY: services
services: ## Install what test-services needs (Debian packages as root; the rest into the cache)
	@mkdir -p '$(DOORWARD_TOOLS)'
	@ci/install.sh services > '$(SERVICES).new' && mv '$(SERVICES).new' '$(SERVICES)'

.PHONY: lint
lint: ## Formatting, clippy and documentation, every warning an error
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps --document-private-items

.PHONY: deny
deny: ## Licences, sources and bans of every dependency (advisories: see deny.toml)
	@ci/install.sh deny
	@echo 'advisories are not checked here: their database is a download (see deny.toml)'
	$(CARGO) fetch --locked
	PATH="$(DOORWARD_TOOLS)/bin:$$PATH" $(CARGO) deny --offline check --hide-inclusion-graph bans licenses sources

.PHONY: bench
bench: services ## All benchmarks, in full; prints every figure once more at the end
	@mkdir -p target
	@. '$(SERVICES)' && { $(CARGO) bench --locked --bench '*'; echo $$? > target/bench.status; } \
		| tee target/bench.log
	@echo; sed -n 's/^= //p' target/bench.log
	@exit "$$(cat target/bench.status)"

.PHONY: bench-quick
bench-quick: ## The engine's benchmark, briefly: that it runs, and roughly what it says
	$(CARGO) bench --locked --bench engine -- --quick

.PHONY: ci
ci: lint deny services test-services demo-once bench-quick ## Beside `make test`, what must pass before a change lands
