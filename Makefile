# Every target that needs the virtual environment creates it in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CASES ?= 10000
SEED ?= 0
READY := $(VENV)/.ready
LMMS_EVAL := .venv-lmms-eval

.DEFAULT_GOAL := help
.PHONY: help setup demo checkpoint test test-training test-ray test-package test-browser test-lmms-eval fuzz screenshots test-slow test-exhaustive test-gpu lint format docs benchmark dry-run clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

setup: $(READY)  ## create the virtual environment with the `dev` extra

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade-strategy only-if-needed -c constraints.txt -e '.[dev]'
	touch $(READY)

demo: $(READY)  ## read and generate images with the bundled checkpoint; saves demo/lavit.png
	$(BIN)/python examples/demo.py --output demo

checkpoint: $(READY)  ## train a checkpoint like the bundled one from raw drawings: takes hours, resumes if interrupted
	examples/emoji/train.sh $(BIN)/python

test: lint  ## ruff, and all quick tests
	$(BIN)/pytest -n 2 -m "not slow and not exhaustive and not gpu and not browser"

test-slow: test-training  ## long tests, and the common suites of transformers and diffusers
	$(BIN)/pytest -n 2 -m "slow and not gpu and not browser" --ignore modeling_tests/training

test-training: $(READY)  ## slow tests of training: with two processes, killed and resumed, docs/train-from-nothing.md
	$(BIN)/pytest -m "slow and not gpu" modeling_tests/training

test-ray: $(READY)  ## pretokenization on a local Ray cluster; installs Ray
	$(BIN)/pip install --quiet -c constraints.txt -e '.[ray]'
	$(BIN)/pytest modeling_tests/training/test_tar_shards.py -k Ray

test-lmms-eval: $(LMMS_EVAL)/.ready  ## the model for lmms-eval, in a separate environment
	$(LMMS_EVAL)/bin/python -m pytest modeling_tests/project/test_lmms_eval.py modeling_tests/project/test_lmms_eval_plugin.py

# This environment also sees the packages of .venv, and adds what lmms-eval needs.
$(LMMS_EVAL)/.ready: $(READY) modeling_tests/lmms_eval_requirements.txt
	$(PYTHON) -m venv $(LMMS_EVAL)
	cd $(LMMS_EVAL)/lib/python3*/site-packages && \
	$(CURDIR)/$(BIN)/python -c "import site; print(*site.getsitepackages())" > shared.pth
	$(LMMS_EVAL)/bin/pip install --quiet --no-deps -e . -r modeling_tests/lmms_eval_requirements.txt
	touch $(LMMS_EVAL)/.ready

fuzz: $(READY)  ## test with random bad input; CASES=10000 and SEED=0 by default
	LAVIT_FUZZ_CASES=$(CASES) $(BIN)/pytest -n 2 modeling_tests/fuzz --hypothesis-seed=$(SEED) --maxfail=20

test-package: $(READY)  ## build the wheel and test it in isolation
	$(BIN)/pytest -m slow modeling_tests/project/test_packaging.py

test-browser: $(READY)  ## test the demo page and the site's search in Chromium; saves screenshots in .cache/screenshots
	$(BIN)/pytest -m browser modeling_tests/page modeling_tests/project/test_site.py

screenshots: test-browser  ## retake the pictures of the demo page in the documentation
	$(BIN)/python modeling_tests/support/screenshots.py

test-exhaustive: $(READY)  ## stop every kind of save at each of its steps
	$(BIN)/pytest -n 2 -m exhaustive

test-gpu: $(READY)  ## tests that need a CUDA device, and LaVIT-7B's speed relative to the device's limits
	$(BIN)/pytest -m gpu
	$(BIN)/python benchmarks/roofline.py --measure

lint: $(READY)  ## check with ruff, without changing files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY)  ## apply ruff's automatic fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY)  ## build the documentation site in .cache/site; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

benchmark: $(READY)  ## most measurements of docs/performance.md
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

dry-run: $(READY)  ## write (51 GB of disk), convert, load and run a random LaVIT-7B at full size
	$(BIN)/python benchmarks/full_size.py

clean:  ## remove everything that the targets created
	rm -rf $(VENV) $(LMMS_EVAL) demo .cache .pytest_cache .ruff_cache
