# make demo | make test | make lint | make test-deep | make fuzz | make mutation | make static-analysis | make bench | make bench-gas
# make bench-scale | make bench-disputes | make bench-quality | make sims | make lock
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
ANVIL := $(VENV)/anvil/node_modules/.bin/anvil
ANVIL_VERSION := 1.7.1
MACHINE := tests/protocol/test_machine.py::test_the_contracts_do_what_the_protocol_says_in_long_histories
ANALYSER := $(VENV)/analyser/bin/vyper-guard
ANALYSER_VERSION := 0.7.0

# Idle torch threads wait asleep: two test processes share the cores.
export OMP_WAIT_POLICY := PASSIVE

.PHONY: demo test test-deep fuzz mutation static-analysis bench bench-gas bench-scale bench-disputes bench-quality sims lint format lock clean

demo: $(READY)
	$(BIN)/refstep demo

test: lint $(ANVIL)
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not deep"

# The state machine of tests/protocol says what happened in it, so it runs on its own.
test-deep: $(READY) $(ANVIL)
	$(BIN)/python -m pytest -n 2 --dist loadgroup --deselect $(MACHINE)
	$(BIN)/python -m pytest -s $(MACHINE)

# The fuzzing tables of docs/assurance.md. Another campaign: make fuzz FUZZ="--seed 7 --programs 5000 --calls 100000"
fuzz: $(READY)
	$(BIN)/python -m benchmarks.fuzz $(FUZZ)

# The tables of docs/benchmarks.md. It wants a machine with nothing else to do.
bench: $(READY)
	$(BIN)/python -m benchmarks.training
	$(BIN)/python -m benchmarks.hashing
	$(BIN)/python -m benchmarks.dot

# The tables of docs/gas.md and docs/assurance.md.
bench-gas: $(READY) $(ANVIL)
	$(BIN)/python -m benchmarks.gas
	$(BIN)/python -m benchmarks.referee_gas --write

# The largest disputes, and how they grow (docs/gas.md).
bench-scale: $(READY) $(ANVIL)
	$(BIN)/python -m benchmarks.scale

bench-disputes: $(READY) $(ANVIL)
	$(BIN)/python -m benchmarks.disputes

# The tables of docs/quality.md: seven to ten minutes.
bench-quality: $(READY)
	$(BIN)/python -m benchmarks.quality

# All sweeps into build/sweeps, with a report on each, and the figures that the docs show: a quarter of an hour, and half as much again
# for the compiler the first time. It goes on where it was stopped.
SWEEPS := $(basename $(notdir $(wildcard sims/sweeps/*.toml)))

sims: $(READY)
	set -e; for sweep in $(SWEEPS); do \
	  $(BIN)/refstep sims sweep $$sweep --out build/sweeps/$$sweep; $(BIN)/refstep sims report build/sweeps/$$sweep; done
	set -e; for picture in docs/figures/*/*.png; do cp build/sweeps/$${picture#docs/figures/} $$picture; done

# How much of what can be wrong in a contract the tests notice (docs/assurance.md): hours. It goes on where it was stopped, and keeps
# what it found in build/mutation.jsonl. MUTATION="--only modules/merkle.vy" or MUTATION="--sample 300" for less.
mutation: $(READY)
	$(BIN)/python -m benchmarks.mutation $(MUTATION)

# The compiler's warnings as errors, then an analyser of Vyper sources, in an environment of its own. Of its detectors those are left
# out that misread these sources (docs/assurance.md); their findings were read one by one.
DETECTORS := missing_nonreentrant,unchecked_send,unprotected_selfdestruct,dangerous_delegatecall,send_in_loop,unchecked_subtraction
DETECTORS := $(DETECTORS),cei_violation,tx_origin_auth,missing_input_validation,unsafe_assembly,missing_return_value
DETECTORS := $(DETECTORS),division_before_multiplication,incorrect_erc20_return,oracle_price_manipulation
DETECTORS := $(DETECTORS),missing_slippage_protection,signature_replay

static-analysis: $(READY) $(ANALYSER)
	set -e; for source in contracts/*.vy; do $(BIN)/vyper -W error -p contracts -f abi $$source >/dev/null; done
	set -e; for source in contracts/*.vy contracts/modules/*.vy; do $(ANALYSER) analyze $$source --ci -s LOW -d $(DETECTORS); done

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(READY)
	(sed -n 1p constraints.txt; $(BIN)/pip freeze --exclude-editable | sed 's/^\(torch==[0-9.]*\).*/\1/') > constraints.new
	mv constraints.new constraints.txt

clean:
	rm -rf $(VENV) build *.egg-info

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Refstep needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(READY)

# A real JSON-RPC node for the end-to-end test. Without npm the test is skipped and says so.
$(ANVIL): $(READY)
	@if command -v npm >/dev/null; then \
	  npm install --silent --no-save --ignore-scripts --prefix $(VENV)/anvil @foundry-rs/anvil@$(ANVIL_VERSION); \
	else echo "npm not found: the end-to-end test against anvil will be skipped"; fi

$(ANALYSER):
	$(PYTHON) -m venv $(VENV)/analyser
	$(VENV)/analyser/bin/python -m pip install --quiet --disable-pip-version-check vyper-guard==$(ANALYSER_VERSION) vyper==0.4.3
