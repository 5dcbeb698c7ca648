# make demo   install into .venv, run the quickstart, say where the report is
# make test   install into .venv, run the tests, a process a core (4 at most)
# make check  lint, formatting, types, import contracts
# make docs   build the documentation site, strict, into build/site
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# GCC before 11.5, 12.4 and 13.3 compiles llama.cpp's AMX code into a crash (GCC bug 114098).
ifeq ($(shell uname -sm),Linux x86_64)
export CMAKE_ARGS ?= -DCMAKE_C_FLAGS=-mno-amx-int8 -DCMAKE_CXX_FLAGS=-mno-amx-int8
endif
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM = false

.PHONY: demo test check docs clean

demo: $(STAMP)
	$(BIN)/edgetune run configs/quickstart.yaml

# make test MARKS="not gpu" runs the slow, assets and browser tests too
test: $(STAMP)
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(if $(MARKS),-m "$(MARKS)")

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade "pip>=25" -c constraints.txt
	$(BIN)/pip install --quiet -c constraints.txt "torch==$$(sed -n 's/^torch==//p' constraints.txt)"
	$(BIN)/pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) runs build *.egg-info
