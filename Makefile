# Every target sets up what it needs; `make help` lists them.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
UNIT   := tests/unit tests/golden
SLOW   := tests/property tests/accuracy tests/plane tests/chart tests/node tests/perf

.DEFAULT_GOAL := help
.PHONY: help setup demo test check unit slow cluster-up cluster-down node-up node-down e2e e2e-kind image-test test-vllm accuracy bench crds manifests soak clean

help: ## list the targets
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(STAMP): requirements-dev.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

setup: $(STAMP) ## virtual environment in .venv with the locked dependencies

demo: $(STAMP) ## a real local control plane with fake GPU nodes, the operator and the samples; leaves nothing behind
	@$(BIN)/python -m tests.controlplane demo

test: $(STAMP) ## everything that CI runs, on a real control plane and a real node (built once, about 15 minutes)
	@# They compile while lint and unit tests run; the plane tests then wait for it.
	@log=$$(mktemp); $(BIN)/python -m tests.node build >$$log 2>&1 & build=$$!; \
	$(MAKE) --no-print-directory check; checked=$$?; \
	tail -n +1 -f --pid=$$build $$log; wait $$build; built=$$?; rm -f $$log; \
	[ $$built -eq 0 ] && $(MAKE) --no-print-directory slow; slow=$$?; \
	exit $$((checked || built || slow))

check: $(STAMP) ## format, lint, types, import layers and unit tests: under a minute
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	@$(MAKE) --no-print-directory unit

unit: $(STAMP)
	$(BIN)/pytest -q -n auto $(wildcard $(UNIT))

# Properties over thousands of plans, and everything that needs the control plane.
slow: $(STAMP)
	REQUIRE_CONTROL_PLANE=1 $(BIN)/pytest -q $(wildcard $(SLOW))

accuracy: $(STAMP) ## regenerate the figures of docs/explanation/memory-model.md from the measured starts
	PYTHONPATH=operator:. $(BIN)/python -m tests.accuracy.report

bench: $(STAMP) ## the operator under load, into docs/reference/benchmarks.md (some of it: SCENARIOS=burst)
	PYTHONPATH=operator:. $(BIN)/python -m tests.perf $(SCENARIOS)
	PYTHONPATH=operator:. $(BIN)/python -m tests.perf.bench_predict
	PYTHONPATH=operator:. $(BIN)/python -m tests.perf.bench_plan

soak: $(STAMP) ## long random runs on a real control plane: 200 clusters that the scheduler must agree about, 200 kills, faults, fuzz, churn
	REQUIRE_CONTROL_PLANE=1 SOAK_CASES=200 $(BIN)/pytest -q tests/plane/test_scheduler_agrees.py
	REQUIRE_CONTROL_PLANE=1 SOAK_KILLS=200 SOAK_OUTAGE_SECONDS=60 SOAK_FAULTY_BURST=200 SOAK_FUZZ=10000 SOAK_GENERATIONS=100 \
		$(BIN)/pytest -q $(addprefix tests/plane/test_,kills.py two_operators.py faults.py fuzz.py churn.py)
	REQUIRE_CONTROL_PLANE=1 SOAK_QUIET_SECONDS=600 $(BIN)/pytest -q --timeout=900 tests/plane/test_quiet.py

cluster-up: $(STAMP) ## the local control plane alone; prints the kubeconfig's path
	@$(BIN)/python -m tests.controlplane up

cluster-down: $(STAMP) ## stop it
	@$(BIN)/python -m tests.controlplane down

node-up: $(STAMP) ## a real node (kubelet, containerd, runc) with a control plane; prints the kubeconfig's path (root, Linux)
	@$(BIN)/python -m tests.node up

node-down: $(STAMP) ## stop it; nothing is left on the machine
	@$(BIN)/python -m tests.node down

e2e: $(STAMP) ## the operator as it is shipped and a real vLLM on a real node (needs buildah and mmdebstrap, as root)
	$(BIN)/pytest -q -m e2e tests/e2e

e2e-kind: $(STAMP) ## the plane tests on kind (needs Docker and kind)
	@kind create cluster --name vllm-operator-test --wait 120s
	@kind get kubeconfig --name vllm-operator-test > .kind.kubeconfig
	@export WEBHOOK_HOST=$$(docker network inspect kind -f '{{(index .IPAM.Config 0).Gateway}}'); \
	KUBECONFIG_TEST=$$PWD/.kind.kubeconfig $(MAKE) --no-print-directory slow; status=$$?; \
	kind delete cluster --name vllm-operator-test; rm -f .kind.kubeconfig; exit $$status

image-test: $(STAMP) ## build the image with buildah and check it (needs buildah and mmdebstrap, as root)
	$(BIN)/pytest -q -m image tests/image

test-vllm: $(STAMP) ## vLLM's own parser and server on what is planned (installs vLLM's CPU build once: 5 minutes, 6 GB)
	$(BIN)/pytest -q -m vllm tests/vllm

crds: $(STAMP) ## regenerate the CRD from the API models
	$(BIN)/vllm-operator crd > crds/vllmdeployments.vllm-operator.io.yaml
	cp crds/vllmdeployments.vllm-operator.io.yaml charts/vllm-operator/crds/

manifests: $(STAMP) ## regenerate manifests/install.yaml from the chart
	$(BIN)/python -c "from tests.controlplane.tools import install_manifest; print(install_manifest(), end='')" > manifests/install.yaml.part
	mv manifests/install.yaml.part manifests/install.yaml

clean: ## remove the virtual environment and caches of this checkout
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
