# Everything runs in .venv, which the first target that needs it sets up; see `make help`.
SHELL := /bin/bash
.DEFAULT_GOAL := help
IS_3_11 := -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))'
PYTHON ?= $(shell for name in python3.11 python3; do $$name $(IS_3_11) 2>/dev/null && command -v $$name && break; done)
BIN := .venv/bin
TORCH_VERSION := 2.13.0
TORCH_CPU_INDEX := https://download.pytorch.org/whl/cpu
SOURCES := proto trainer_svc scorer_svc oracle_svc deploy tests
STAMP := .venv/set-up
TOOLS := --extra crowd --extra amqp --extra sqs --extra label-studio

ifeq ($(wildcard requirements.lock),)
$(error run make in the folder that holds this Makefile, or as: make -C that-folder)
endif

.PHONY: help setup demo test test-docker test-queues test-labelstudio check fmt proto lock bench study chaos soak clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' Makefile | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

setup: $(STAMP) ## Make .venv and install everything into it (once; others do it where needed)

# One shell: the lock, for which a second make waits, goes with it, however it ends. A pip that was killed leaves
# .venv/unfinished behind, and the next set-up starts afresh.
$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" && "$(PYTHON)" $(IS_3_11) || { \
	  echo "labelloop needs Python 3.11; say where it is: make PYTHON=/path/to/python3.11 ..."; exit 2; }
	@set -e; exec 9<pyproject.toml; $(PYTHON) -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)'; \
	  if [ $(STAMP) -nt requirements.lock ] && [ $(STAMP) -nt pyproject.toml ]; then exit; fi; \
	  install() { \
	    touch .venv/unfinished; \
	    $(BIN)/python -m pip install -qq --disable-pip-version-check --no-input --root-user-action ignore "$$@"; \
	    rm .venv/unfinished; \
	  }; \
	  echo "setting up .venv, once: one to five minutes, mostly downloads (about 400 MB)"; \
	  if [ -e .venv/unfinished ] || ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	    $(PYTHON) -m venv --clear .venv; \
	  fi; \
	  echo "  1/3 libraries"; \
	  install --require-hashes --requirement requirements.lock; \
	  echo "  2/3 torch, the CPU build"; \
	  install torch==$(TORCH_VERSION) --extra-index-url $(TORCH_CPU_INDEX) --retries 0; \
	  $(BIN)/python -c 'import sys, torch; sys.exit(torch.version.cuda is not None)' || { \
	    echo "torch came with CUDA, gigabytes that nothing here uses, because $(TORCH_CPU_INDEX) is out of reach:"; \
	    echo "make it reachable and run \`make clean setup\`, or put torch $(TORCH_VERSION)+cpu into .venv by hand"; \
	    exit 1; \
	  }; \
	  echo "  3/3 labelloop"; \
	  install --no-deps --no-build-isolation --editable .; \
	  touch $(STAMP)

demo: $(STAMP) ## Run the article's experiments through the services; writes out/demo/report.html
	@$(BIN)/labelloop demo $(ARGS)

# Tests wait more than they work: more at a time than two cores can carry.
test: $(STAMP) ## Run the whole test suite (ARGS= goes to pytest)
	@$(BIN)/python -m pytest --numprocesses 3 --dist worksteal $(ARGS)

test-docker: $(STAMP) ## Build the images and run them: needs root and dockerd (ARGS= goes to pytest)
	@LABELLOOP_DOCKER=1 $(BIN)/python -m pytest -p no:xdist tests/docker $(ARGS)

test-queues: $(STAMP) ## Every tool that people label in and that this machine has; lists what it skips and why
	@LABELLOOP_ALL_TOOLS=1 LABELLOOP_LABEL_STUDIO_TESTS=1 $(BIN)/python -m pytest -p no:xdist tests/queues $(ARGS)

test-labelstudio: $(STAMP) ## The same for Label Studio alone: installs it once, five minutes, into the user's cache folder
	@$(BIN)/python tests/queues/label_studio_venv.py
	@LABELLOOP_LABEL_STUDIO_TESTS=1 $(BIN)/python -m pytest -p no:xdist tests/queues -k label_studio $(ARGS)

check: $(STAMP) ## Formatting, lint, types, and drift of the generated code
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy $(SOURCES)
	@$(BIN)/python deploy/generate_protos.py --check

fmt: $(STAMP) ## Format and mend what lint can mend
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

proto: $(STAMP) ## Generate Python from the protos
	@$(BIN)/python deploy/generate_protos.py

lock: ## Write requirements.lock and the images' locks anew (ARGS=--upgrade to choose new versions)
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && $(PYTHON) -m venv "$$folder" && \
	  "$$folder/bin/python" -m pip install -qq --disable-pip-version-check --root-user-action ignore uv && \
	  compile() { \
	    "$$folder/bin/uv" pip compile --quiet --generate-hashes --no-emit-index-url --no-header --no-annotate \
	      --no-strip-extras --python-version 3.11 "$$@"; \
	  } && \
	  image() { name=$$1; shift; compile --constraint requirements.lock "$$@" -o deploy/docker/locks/$$name.lock; } && \
	  compile --extra trainer --extra scorer --extra oracle --extra cli --extra s3 $(TOOLS) --extra dev $(ARGS) \
	    pyproject.toml -o requirements.lock && \
	  for name in trainer scorer; do image $$name --extra $$name --extra s3 pyproject.toml || exit; done && \
	  image oracle --extra oracle --extra s3 $(TOOLS) pyproject.toml && \
	  image cli --extra cli pyproject.toml && echo setuptools | image build -

bench: $(STAMP) ## Measure (ONLY=name for one); writes out/bench/<name>.json
	@$(BIN)/python -m tests.bench $(ONLY)

study: $(STAMP) ## Strategies x features x seeds through the services, resumable (QUICK=1: five minutes; ONLY=words)
	@$(BIN)/python -m tests.study $(if $(QUICK),--quick) --only "$(ONLY)"

load: $(STAMP) ## Put a scorer under load, two minutes (SECONDS=, ONLY=, UI=1; HOST= and RUN=, TRAINER=, MODEL= of one that runs)
	@$(BIN)/python -m tests.load --host "$(HOST)" --trainer "$(TRAINER)" --run "$(RUN)" --model "$(MODEL)" \
	  --only "$(ONLY)" --seconds $(or $(SECONDS),8) $(if $(UI),--ui)

chaos: $(STAMP) ## Every fault once, with real processes, ten minutes or so (SEED=, ONLY=part of a name)
	@$(BIN)/python -m tests.chaos --schedules 1000 --seed $(or $(SEED),1) --only "$(ONLY)"

soak: $(STAMP) ## The same with ever new seeds for SECONDS=1800, behind SCHEDULES=10000 simulated ones (SEED=)
	@$(BIN)/python -m tests.chaos --seconds $(or $(SECONDS),1800) --schedules $(or $(SCHEDULES),10000) --seed $(or $(SEED),1)

clean: ## Remove .venv and everything that was made
	@rm -rf .venv out .mypy_cache .ruff_cache .pytest_cache .hypothesis
