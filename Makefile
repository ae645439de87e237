# Everything runs in .venv, which the first target that needs it sets up and the others add to; see `make help`.
SHELL := /bin/bash
.DEFAULT_GOAL := help
# PYTHON= names the interpreter for .venv, else the newest that is supported; TORCH=cuda takes PyTorch's build for CUDA.
IS_NEW_ENOUGH := -c 'import sys; sys.exit(sys.version_info < (3, 11))'
BOOTSTRAP := $(shell for name in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11 \
  ~/.pyenv/versions/3.1[1-4].*/bin/python; do $$name $(IS_NEW_ENOUGH) 2>/dev/null && command -v $$name && break; done)
ENVIRONMENTS := PYTHONPATH=deploy $(BOOTSTRAP) -m environments
CHOICES := $(if $(PYTHON),--python $(PYTHON)) $(if $(TORCH),--torch $(TORCH))
BIN := .venv/bin
# Services start by the hundred in the tests: each would otherwise compile its libraries.
unexport PYTHONDONTWRITEBYTECODE
SOURCES := proto trainer_svc scorer_svc oracle_svc deploy tests

ifeq ($(wildcard requirements.lock),)
$(error run make in the folder that holds this Makefile, or as: make -C that-folder)
endif

.PHONY: help setup setup-run setup-test setup-check setup-bench setup-queues demo test test-pythons test-docker test-kubernetes \
  test-queues test-labelstudio test-tools nightly check fmt proto lock sbom audit bench study load chaos soak clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' Makefile | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

setup: setup-check setup-queues ## Install everything that development needs into .venv (others do it where needed)

setup-run setup-test setup-check setup-bench setup-queues: setup-%: # a moment where it is done already
	@test -n "$(BOOTSTRAP)" || { \
	  echo "labelloop needs Python 3.11 to 3.14: install one, or say where it is: make PYTHON=/path/to/python ..."; exit 2; }
	@$(ENVIRONMENTS) $* $(CHOICES)

demo: setup-run ## Run the article's experiments through the services; writes out/demo/report.html
	@$(BIN)/labelloop demo $(ARGS)

# Tests wait more than they work: more at a time than two cores can carry. With REQUIRE=1, as in CI, a run fails where
# a suite or a tool that tests/required.toml lists did not run.
PYTEST := $(BIN)/python -m pytest
AT_ONCE := --numprocesses 3 --dist worksteal
test: setup-test ## Run the whole test suite (ARGS= goes to pytest)
	@$(PYTEST) $(AT_ONCE) $(if $(REQUIRE),--require change) $(ARGS)

test-pythons: setup-test ## The unit tests on each other supported Python of this machine
	@$(ENVIRONMENTS).matrix $(ARGS)

test-docker: setup-test ## Build the images and run them: needs root and dockerd (ARGS= goes to pytest)
	@LABELLOOP_DOCKER=1 $(PYTEST) -p no:xdist tests/docker $(if $(REQUIRE),--require images) $(ARGS)

test-kubernetes: setup-test ## On the cluster of KUBECONFIG, in a namespace of its own, an hour: tests/kubernetes/README.md
	@LABELLOOP_KUBERNETES=1 $(PYTEST) -p no:xdist -rs tests/kubernetes $(ARGS)

test-queues: setup-queues ## Tools that people label in: RabbitMQ, SQS, webhooks, NATS, and their faults
	@LABELLOOP_ALL_TOOLS=1 $(PYTEST) $(AT_ONCE) tests/queues $(if $(REQUIRE),--require queues) $(ARGS)

test-labelstudio: setup-queues ## The same for Label Studio, installed once, five minutes, into the user's cache folder
	@$(BIN)/python tests/queues/label_studio_venv.py
	@LABELLOOP_LABEL_STUDIO_TESTS=1 $(PYTEST) -p no:xdist tests/queues -k label_studio $(ARGS)

test-tools: setup-queues ## All tools that people label in, Label Studio among them, in one run of half an hour
	@$(BIN)/python tests/queues/label_studio_venv.py
	@LABELLOOP_ALL_TOOLS=1 LABELLOOP_LABEL_STUDIO_TESTS=1 $(PYTEST) -p no:xdist tests/queues $(ARGS)

nightly: setup-queues setup-bench ## What is too long for each change; says when each part last passed (ONLY=words, LIST=1)
	@$(BIN)/python -m tests.nightly $(if $(LIST),--list) $(ONLY)

check: setup-check ## Formatting, lint, types, and drift of the generated code, pages and schemas
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy $(SOURCES)
	@$(BIN)/python deploy/generate_protos.py --check
	@$(BIN)/python deploy/configuration.py --check
	@$(BIN)/python -m schemas --check

fmt: setup-check ## Format and mend what lint can mend
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

proto: setup-check ## Generate Python and the published schemas from the protos
	@$(BIN)/python deploy/generate_protos.py
	@$(BIN)/python -m schemas

lock: ## Write requirements.lock and the images' locks (ARGS=--upgrade to choose new versions)
	@$(ENVIRONMENTS).locks $(ARGS)

sbom: ## Write a bill of materials of each image, as CycloneDX, to out/sbom (with Debian's packages where the images are)
	@$(ENVIRONMENTS).sbom $(ARGS)

audit: ## Ask a database of advisories about all pinned libraries; 1: there are flaws, 2: no database is reachable
	@$(ENVIRONMENTS).audit $(ARGS)

bench: setup-bench ## Measure (ONLY=name for one); writes out/bench/<name>.json
	@$(BIN)/python -m tests.bench $(ONLY)

study: setup-bench ## Strategies x features x seeds through the services, resumable (QUICK=1: five minutes; ONLY=words)
	@$(BIN)/python -m tests.study $(if $(QUICK),--quick) --only "$(ONLY)"

load: setup-bench ## Put a scorer under load, two minutes (SECONDS=, ONLY=, UI=1; HOST= and RUN=, TRAINER=, MODEL= of one that runs)
	@$(BIN)/python -m tests.load --host "$(HOST)" --trainer "$(TRAINER)" --run "$(RUN)" --model "$(MODEL)" \
	  --only "$(ONLY)" --seconds $(or $(SECONDS),8) $(if $(UI),--ui)

chaos: setup-test ## Every fault once, with real processes, half an hour or so (SEED=, ONLY=part of a name)
	@$(BIN)/python -m tests.chaos --schedules 1000 --seed $(or $(SEED),1) --only "$(ONLY)"

soak: setup-test ## The same with ever new seeds for SECONDS=1800, behind SCHEDULES=10000 simulated ones (SEED=)
	@$(BIN)/python -m tests.chaos --seconds $(or $(SECONDS),1800) --schedules $(or $(SCHEDULES),10000) --seed $(or $(SEED),1)

clean: ## Remove .venv and everything that was made
	@rm -rf .venv .uv out .mypy_cache .ruff_cache .pytest_cache .hypothesis
