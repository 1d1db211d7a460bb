# Every target sets up what it needs first: in its own folders, once, and again only when something changed.
#
#   ROS=kilted|jazzy   which ROS 2 (default: the sourced distribution, else Kilted from wheels)
#   PYTHON=…           the Python to make the environment from (default: python3.11; python3 where ROS is sourced)
#   TORCH=cpu|cuda     which build of torch (default: cpu)
#   SEED=…             the demo's seed
#   TESTS=…            what pytest gets, e.g. TESTS="test/test_policy_store.py -k rollback"
#   WORKERS=…          test files at a time (default: 2)

ROS ?=
PYTHON ?=
TORCH ?= cpu
SEED ?= 1
TESTS ?=

SYSTEM_PYTHON := $(firstword $(foreach name,$(PYTHON) python3 python3.11,$(shell command -v $(name) 2>/dev/null)))
WITH_ENV = "$(SYSTEM_PYTHON)" tools/with_env.py --ros "$(ROS)" --

.DEFAULT_GOAL := help
.PHONY: help setup build demo test lint pytest shell lock clean python

help: ## Show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16
	@sed -n 's/^#   \([A-Z]*=\)/  \1/p' $(MAKEFILE_LIST)

setup: python ## Install ROS 2 and everything else into .venv/, and build
	@"$(SYSTEM_PYTHON)" tools/set_up.py --ros "$(ROS)" --python "$(PYTHON)" --torch "$(TORCH)"

build: setup ## The same: set-up builds what changed

demo: setup ## Poison a policy, patch it while it runs, and show that it worked
	@$(WITH_ENV) saferule demo --seed $(SEED)

# Another distribution than the default is there to see whether the ROS part works on it: `make test ROS=jazzy` runs
# the tests that need ROS. The rest does not depend on it.
test: setup ## Lint, types and all tests (with ROS=jazzy: the ROS tests there)
	@$(WITH_ENV) tools/run_tests $(if $(filter jazzy,$(ROS)),ros,all) $(TESTS)

lint: setup ## Lint and types only
	@$(WITH_ENV) tools/run_tests lint

shell: setup ## A shell in which ros2 code, saferule and pytest work
	@$(WITH_ENV)

lock: setup ## Write the lock files anew from requirements/*.in (UPGRADE=1: with the newest versions)
	@$(WITH_ENV) python tools/lock.py $(if $(UPGRADE),--upgrade)

clean: ## Remove the environments, builds and caches (not your runs/ and report/)
	rm -rf .venv build install log .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

python:
	@test -n "$(SYSTEM_PYTHON)" || { echo "No python3 was found. Install it:  apt-get install -y python3.11 python3.11-venv python3.11-dev" >&2; exit 1; }
