# Commands of kafka-reranker. `make help` lists them.
# `make demo` and `make test` install what they need first.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

# Most end-to-end tests wait for a broker, so more workers than cores save time.
TEST_WORKERS ?= 3

.DEFAULT_GOAL := help
.PHONY: help install demo loop test test-long check format lock bench fuzz audit clean

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | sort | expand -t 12

install: $(STAMP)  ## the project's own .venv with all extras that the machine can use

# uv installs in seconds what pip installs in minutes; it comes from PyPI like everything else.
$(STAMP): requirements.lock pyproject.toml hatch_build.py $(wildcard engine/kernels/*.[ch])
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c requirements.lock -e ".[dev]"
	@touch $@

demo: install  ## real questions through the embedded broker (or KAFKA=host:9092 REDIS=redis://…)
	$(BIN)/python -m demo $(if $(KAFKA),--kafka $(KAFKA)) $(if $(REDIS),--redis $(REDIS))

test: install  ## every test that this machine can run; CI=true makes a missing service a failure
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile --durations=15 -m "not long" $(TESTS)

test-long: install  ## the tests that wait for time-outs
	$(BIN)/python -m pytest -m long $(TESTS)

check: install manifests  ## format, lint, types, import rule, published schemas, manifests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m schemas check

format: install  ## format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: install  ## renew requirements.lock from pyproject.toml
	UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-emit-index-url \
	  --no-annotate --extra dev --extra s3 --extra gs --extra deepspeed pyproject.toml -o requirements.lock

loop: install  ## simulated users teach the reranker by clicking, blind ones can't; DATA=BEIR_DIR START=MODEL
	$(BIN)/python -m demo.loop $(if $(DATA),--data $(DATA)) $(if $(START),--start $(START))

bench: install  ## throughput and latency of the engine and of the whole worker
	$(BIN)/python -m bench

bench-peers: install  ## the same weights and pairs through other rerankers, in turn with ours
	$(BIN)/python -m bench.peers

bench-scale: install  ## time and memory with the queue, with lanes and with workers
	$(BIN)/python -m bench.scale

bench-models: install  ## each family in each precision, into docs/models.md; DATA=BEIR_DIR
	$(BIN)/python -m bench.models --document docs/models.md $(if $(DATA),--data $(DATA))

fuzz: install  ## a minute of fuzzing for each decoder, with a report in build/fuzz.json
	$(BIN)/python -m tests.fuzz --seconds 60 --json build/fuzz.json

audit: install  ## known weaknesses of the dependencies, where their list can be reached
	$(BIN)/python -m tests.audit

clean:  ## remove what commands made, but for .venv
	rm -rf build dist

include k8s/manifests.mk
-include tests/chaos/chaos.mk
