# Two commands set everything up on a fresh machine with git, make and Python >= 3.11:
#   make demo   installs, pretrains on the embedded digits, and uses the encoder
#   make test   installs, then lint, types and tests; a Chromium too, where apt-get may install one
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test install format slow docs mutants oldest clean browser

DEMO := runs/demo
export PATH := $(CURDIR)/$(BIN):$(PATH)

demo: .venv/installed
	clr pretrain --out $(DEMO) --overwrite
	clr linear-eval --run $(DEMO) --label-fraction 0.01,0.05,0.1,1
	clr embed --run $(DEMO) --out $(DEMO)/embeddings.pkl
	clr knn $(DEMO)/embeddings.pkl --metric cosine
	clr datasets digits --save-images $(DEMO)/images --count 20 --quiet
	clr similarity $(DEMO)/images/3-*.png --run $(DEMO)
	clr plot embeddings $(DEMO)/embeddings.pkl --run $(DEMO) --quiet
	clr plot embeddings $(DEMO)/embeddings.pkl --run $(DEMO) --out $(DEMO)/map.html --quiet
	clr plot views --run $(DEMO) --quiet
	clr plot curves --run $(DEMO) --quiet
	@printf '\nLook at:\n  %s\n  %s\n  %s\n  %s\n  %s\n' $(DEMO)/map.html $(DEMO)/plots/embeddings-tsne.png $(DEMO)/plots/views.png \
		$(DEMO)/plots/curves.png $(DEMO)/eval/linear-digits.json

test: .venv/installed-dev browser
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

# The tests of pages need a browser. Without one, and without the right to install it, they are skipped (in CI they fail).
browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || { \
		[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 && \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null; \
	} || echo "no Chromium is installed: the tests of pages are skipped" >&2

slow: .venv/installed-dev
	$(BIN)/python -m pytest -m slow

docs: .venv/installed-dev
	$(BIN)/python -m scripts.reference
	$(BIN)/python -m benchmarks.record
	$(BIN)/mkdocs build --strict
	@printf '\nLook at:\n  build/site/index.html\n'

# Some hundred small wrong changes, one at a time in a copy: do the tests notice? Slow: each takes seconds on a free machine.
mutants: .venv/installed-dev
	$(BIN)/python tests/mutants/kill_mutants.py

# The tests once with the oldest versions that pyproject.toml allows, in an environment of its own. Slow.
oldest: .venv/installed-dev
	$(BIN)/python tests/oldest_versions.py

format: .venv/installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

install: .venv/installed

.venv/created:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	touch $@

.venv/installed: .venv/created pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/installed-dev: .venv/created pyproject.toml
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@ .venv/installed

clean:
	rm -rf .venv runs build dist
