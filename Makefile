# Each target sets up what it needs. All state of the demo lies in .signalbox (see README).
.PHONY: help demo test test-long test-faults test-escapes bench bench-vm lint clean
.DEFAULT_GOAL := help

help:
	@echo "make demo             one real alert, from Alertmanager to a gated production fix; prints one URL"
	@echo "make demo AUTO=1      the same, pressing the buttons itself; BREAK=diagnosis|staging|nodata|production|tamper"
	@echo "make demo AGENT=replay  agents diagnose and write the fix; their models replay what stands in demo/tapes"
	@echo "make test             everything that is checked: format, lint, types, imports, tests"
	@echo "make test-long        the same, and every way in which the demo can be broken; writes docs/runbooks.md (an hour more)"
	@echo "make test-faults      kill -9, SIGSTOP, power cuts, full disks on real processes; writes docs/faults.md (as root)"
	@echo "make test-escapes     what root in a step's VM can try to get out, and what came of it; writes docs/escapes.md"
	@echo "make bench            what coordination costs, written to docs/benchmarks.md (a quarter of an hour)"
	@echo "make bench-vm         what a VM of its own costs a step, written to docs/benchmarks-vm.md (a quarter of an hour)"
	@echo "make lint             the quick part of it"
	@echo "make clean            stop and forget the demo (images and packages stay)"

demo:
	@scripts/setup.sh demo
	@.venv/bin/python -m demo $(if $(AUTO),--auto) $(if $(BREAK),--break $(BREAK)) $(if $(AGENT),--agent $(AGENT))

# quick things first, so that what is broken shows early
TESTS = tests/architecture tests/unit tests/regressions tests/integration tests/faults tests/library tests/acceptance

test: lint
	@.venv/bin/pytest -m "not slow" $(PYTEST_ARGS) $(TESTS)

test-long: lint
	@RUNBOOKS_REPORT=docs/runbooks.md .venv/bin/pytest $(PYTEST_ARGS) $(TESTS)

bench:
	@scripts/setup.sh bench
	@.venv/bin/python -m bench $(BENCH_ARGS)

# root: it mounts a small disk and makes network namespaces
test-faults:
	@scripts/setup.sh test
	@FAULTS_REPORT=docs/faults.md .venv/bin/pytest -s $(PYTEST_ARGS) tests/faults tests/integration/fleet

test-escapes:
	@scripts/setup.sh test
	@ESCAPES_REPORT=docs/escapes.md .venv/bin/pytest $(PYTEST_ARGS) tests/integration/runtime/test_escapes.py

lint:
	@scripts/setup.sh test
	@.venv/bin/ruff format --check --quiet .
	@.venv/bin/ruff check --quiet .
	@.venv/bin/mypy
	@.venv/bin/lint-imports --no-logo

bench-vm:
	@scripts/setup.sh test
	@.venv/bin/python -m bench.vm $(BENCH_ARGS)

clean:
	@if [ -x .venv/bin/python ]; then .venv/bin/python -m demo --stop; fi
	@python3 scripts/libvirtd.py stop --state .signalbox/test-libvirt >/dev/null
	@if [ -d .signalbox ]; then find .signalbox -mindepth 1 -maxdepth 1 ! -name images -exec rm -rf {} +; fi
