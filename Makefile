# `make demo` and `make test` set everything up in .venv by themselves, in either order.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CASES ?= 10000
SEED ?= 0
READY := $(VENV)/.ready
LMMS_EVAL := .venv-lmms-eval

.DEFAULT_GOAL := help
.PHONY: help setup demo checkpoint test test-training test-ray test-package test-browser test-lmms-eval fuzz screenshots test-slow test-gpu lint format docs benchmark dry-run clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

setup: $(READY)  ## make the virtual environment

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade-strategy only-if-needed -c constraints.txt -e '.[dev]'
	touch $(READY)

demo: $(READY)  ## read, answer and paint with the shipped checkpoint, saved as one page of pictures
	$(BIN)/python examples/demo.py --output demo

checkpoint: $(READY)  ## train the shipped checkpoint from raw data: hours, goes on where it was cut short
	examples/emoji/train.sh $(BIN)/python

test: lint  ## ruff, then all tests that need neither a GPU nor minutes each
	$(BIN)/pytest -n 2 -m "not slow and not gpu and not browser"

test-training: $(READY)  ## two processes that train together, a run that is killed, and a LaVIT from nothing
	$(BIN)/pytest -m "slow and not gpu" modeling_tests/training

test-ray: $(READY)  ## pretokenizing on a local Ray, which is installed for it
	$(BIN)/pip install --quiet -c constraints.txt -e '.[ray]'
	$(BIN)/pytest modeling_tests/training/test_tar_shards.py -k Ray

test-lmms-eval: $(LMMS_EVAL)/.ready  ## the model for lmms-eval, in an environment with it
	$(LMMS_EVAL)/bin/python -m pytest modeling_tests/project/test_lmms_eval.py modeling_tests/project/test_lmms_eval_plugin.py

# Sees the packages of the other environment, and has what lmms-eval needs beside them.
$(LMMS_EVAL)/.ready: $(READY) modeling_tests/lmms_eval_requirements.txt
	$(PYTHON) -m venv $(LMMS_EVAL)
	cd $(LMMS_EVAL)/lib/python3*/site-packages && \
	$(CURDIR)/$(BIN)/python -c "import site; print(*site.getsitepackages())" > shared.pth
	$(LMMS_EVAL)/bin/pip install --quiet --no-deps -e . -r modeling_tests/lmms_eval_requirements.txt
	touch $(LMMS_EVAL)/.ready

fuzz: $(READY)  ## bad input of every kind, CASES=10000 by default; SEED=1 for others
	LAVIT_FUZZ_CASES=$(CASES) $(BIN)/pytest -n 2 modeling_tests/fuzz --hypothesis-seed=$(SEED) --maxfail=20

test-package: $(READY)  ## the wheel: built, complete, and at work by itself
	$(BIN)/pytest -m slow modeling_tests/project/test_packaging.py

test-browser: $(READY)  ## the page and the site's search in Chromium; leaves screenshots in .cache/screenshots
	$(BIN)/pytest -m browser modeling_tests/page modeling_tests/project/test_site.py

screenshots: test-browser  ## the README's pictures of the page, taken anew
	$(BIN)/python modeling_tests/support/screenshots.py

test-slow: $(READY)  ## the tests that take long
	$(BIN)/pytest -m "slow and not gpu"

test-gpu: $(READY)  ## the tests that need a CUDA device, and the share of what the card allows that LaVIT-7B reaches
	$(BIN)/pytest -m gpu
	$(BIN)/python benchmarks/roofline.py --measure

lint: $(READY)  ## ruff: lint and format, changing nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY)  ## ruff: mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY)  ## the documents as a site, in .cache/site; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

benchmark: $(READY)  ## time the visual tokenizer, generation and the pipeline
	$(BIN)/python benchmarks/tokenizer.py
	$(BIN)/python benchmarks/generation.py
	$(BIN)/python benchmarks/pipeline.py
	$(BIN)/python benchmarks/conversion.py
	$(BIN)/python benchmarks/loading.py
	$(BIN)/python benchmarks/imports.py
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/serving.py
	$(BIN)/python benchmarks/turns.py
	$(BIN)/python benchmarks/growth.py
	$(BIN)/python benchmarks/summary.py

dry-run: $(READY)  ## a random LaVIT-7B at full size: written (51 GB of disk), converted, loaded in 4 and 8 bits, run
	$(BIN)/python benchmarks/full_size.py

clean:  ## remove what the targets made
	rm -rf $(VENV) $(LMMS_EVAL) demo .cache .pytest_cache .ruff_cache
