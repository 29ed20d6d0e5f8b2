# Two commands do all the set-up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# What is installed: the releases that were tested with this Python. `LOCK=` takes the newest ones.
LOCK ?= $(wildcard locks/$(shell $(PYTHON) -c 'import sys; print("python%d.%d.txt" % sys.version_info[:2])'))

.PHONY: demo test test-latest lint unit test-slow test-gpu fuzz bench results board reproduce lock format clean help

help:                 ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: $(VENV)/installed  ## install, run the offline default, show its results
	$(BIN)/python train.py

test: $(VENV)/installed-test lint unit  ## install with the test extras, run linters and all tests

lint: $(VENV)/installed-test  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test-latest:          ## the same with the newest releases of everything, in an environment of its own
	$(MAKE) test VENV=.venv-latest LOCK=

# One thread a process: two test processes with two threads each would fight over two cores.
unit: $(VENV)/installed-test  ## all tests but the slow ones
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -q

test-slow: $(VENV)/installed-test  ## the longer checks
	$(BIN)/python -m pytest -m slow -q

test-gpu: $(VENV)/installed-test  ## every method on a CUDA GPU
	$(BIN)/python -m pytest -m gpu -q

fuzz: $(VENV)/installed-test  ## 2,350 seeded mutations of what users give; ARGS="images --count 50"
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python -m fuzz $(ARGS)

bench: $(VENV)/installed-test  ## the speed goals, each a ratio measured in one run
	for file in benchmarks/[a-z]*.py; do OMP_WAIT_POLICY=PASSIVE $(BIN)/python $$file; done

# Studies of suites draw their pages from the kept records; their own --run runs them anew.
STUDIES ?= mofo_two_variables flow_linear_theory sfa_two_tasks flow_digits mofo_loss \
	mofo_one_task mofo_stream flow_table flow_table_bn sfa_stream sfa_fashion_mnist \
	imagenet_forgetting retention_measures every_method every_method_cifar10 every_method_reasons

results: $(VENV)/installed  ## docs/results anew; STUDIES=NAME for one study alone
	for study in $(STUDIES); do $(BIN)/python studies/$$study.py || exit 1; done
	$(BIN)/python studies/claims.py

board: $(VENV)/installed  ## the studies as submissions and their board, in build/board
	$(BIN)/python tools/own_submissions.py build/submissions
	$(BIN)/python -m clbench board build/submissions --output build/board

reproduce: $(VENV)/installed  ## a paper's runs on a large machine: PAPER=sfa (or flow, mofo)
	$(BIN)/python -m clbench reproduce $(PAPER) --yes $(ARGS)

format: $(VENV)/installed-test  ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock:                 ## write the lock of this Python anew: the newest releases that fit
	$(PYTHON) locks/make.py

clean:                ## remove the environments and caches
	rm -rf $(VENV) .venv-latest build .mypy_cache .ruff_cache .pytest_cache

# pip reads the lock from its variables, so that what builds packages is locked too.
define install
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing $(if $(LOCK),what $(LOCK) names,the newest releases: there is no lock)."
	$(if $(LOCK),PIP_CONSTRAINT=$(LOCK) PIP_BUILD_CONSTRAINT=$(LOCK)) $(BIN)/python -m pip install -e '.$(1)'
	touch $@
endef

$(VENV)/installed: pyproject.toml $(LOCK)
	$(call install,)

$(VENV)/installed-test: pyproject.toml $(LOCK)
	$(call install,[test])
