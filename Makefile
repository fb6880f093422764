# make demo: the whole way through on real handwriting. make test: lint, types, tests. Both install what they need.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# TORCH_CPU_INDEX: the address of an index of torch for the CPU, as pytorch.org shows it. Taken where there is no NVIDIA GPU,
# since the packages for CUDA have gigabytes.
NVIDIA ?= $(wildcard /dev/nvidiactl /dev/dxg)
ifeq ($(strip $(NVIDIA)),)
ifneq ($(strip $(TORCH_CPU_INDEX)),)
PIP += --extra-index-url $(TORCH_CPU_INDEX)
endif
endif

.PHONY: demo test clean

demo: $(VENV)/.installed
	@$(BIN)/plada demo

test: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses logical --maxprocesses 8 --dist worksteal

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit("plada needs Python 3.11 or newer; make PYTHON=... names one. This one is %d.%d" % v if v < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: pyproject.toml | $(VENV)/.created
	@echo "installing plada and its dependencies into $(VENV) (once; about a minute)"
	$(PIP) --editable '.[cpu]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml $(VENV)/.installed
	$(PIP) --editable '.[cpu,dev]'
	@touch $@

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache
