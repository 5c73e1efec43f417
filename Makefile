# Every target first sets up what it needs in .venv; `make` alone lists the targets.
.DEFAULT_GOAL := help
.PHONY: help setup setup-full demo benchmark test test-versions docs lint format lock clean

# The first Python >= 3.10 on the PATH; another: make test PYTHON=python3.12
PYTHON ?= $(shell for p in python3 python3.12 python3.11 python3.10 python3.13; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && echo $$p && break; done)
NO_PYTHON = $(error No Python >= 3.10 on the PATH; install one or name it: make PYTHON=/path/to/python3)
SETUP = $(or $(PYTHON),$(NO_PYTHON)) tools/setup_env.py
RUN := .venv/bin/python
# Number of test processes; 0: all tests in one process (for a debugger)
WORKERS ?= 2

# Without byte code, Python would compile torch and mmdet at each start.
unexport PYTHONDONTWRITEBYTECODE
unexport PYTHONPATH

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{printf "%-20s %s\n", $$1, $$2}'

setup: ## .venv for pretraining and the demo
	@$(SETUP) core

setup-full: ## .venv with the transfer libraries and the tests' tools
	@$(SETUP) full

demo: ## pretrain a small ResNet on photographs and draw its groups (DATA=path: your own folder)
	@$(SETUP) core
	@$(RUN) tools/demo.py $(if $(DATA),--data "$(DATA)") $(ARGS)

benchmark: ## a small benchmark, from pretraining to the table (DATA=path: a folder in COCO's format)
	@$(SETUP) full
	@PYTHON=.venv/bin/python tools/benchmark.sh configs/benchmark/mini.yaml \
		--data "$(or $(DATA),$(SLOTCON_DATA),../shared/data/coco_mini)" $(ARGS)

test: ## run the test suite (ARGS="-k lars" or ARGS=tests/test_lars.py: a part; WORKERS=0: in one process)
	@$(SETUP) full
	@OMP_NUM_THREADS=1 $(RUN) -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

docs: ## build the documentation into site/; a warning is an error
	@$(SETUP) full
	@NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict && echo "written: site/index.html"

test-versions: ## the core's tests with the lowest, newest and upstream's versions (ARGS="lowest": one of them)
	@$(SETUP) full
	@$(RUN) tests/versions.py $(ARGS)

lint: ## check format, style and the direction of imports
	@$(SETUP) lint
	@.venv/bin/ruff format --check . && .venv/bin/ruff check . && .venv/bin/lint-imports --no-cache

format: ## format the code as lint checks it
	@$(SETUP) lint
	@.venv/bin/ruff format . && .venv/bin/ruff check --fix .

lock: ## resolve constraints/pinned.txt again from constraints/chosen.txt and setup.py
	@$(SETUP) core
	@UV_PYTHON_DOWNLOADS=never .venv/bin/uv pip compile setup.py --all-extras \
		--constraints constraints/chosen.txt --universal --python-version 3.10 \
		--no-annotate --custom-compile-command "make lock" --output-file constraints/pinned.txt

clean: ## remove .venv and caches (not work_dirs, not the compiled mmcv)
	rm -rf .venv build *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
