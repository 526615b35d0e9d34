# make run   sets up .venv, installs requirement.txt and runs one point of both curves on the embedded benchmark
# make test  the same environment, then the tests
# make train-scenes  train everything that Weights/scenes and Freq_tab/scenes hold (hours)
PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
READY := $(VENV)/.ready

.PHONY: run test train-scenes clean

run: $(READY)
	cd Classification && $(BIN)/python val.py --split_point S1 --compress_factor 1
	cd Segmentation && $(BIN)/python val.py --split_point S1 --compress_factor 1

test: $(READY)
	$(BIN)/python -m pytest

train-scenes: $(READY)
	$(BIN)/python -m spic.training.backbone --benchmark scenes --task classification
	$(BIN)/python -m spic.training.backbone --benchmark scenes --task segmentation
	$(BIN)/python -m spic.training.grid --benchmark scenes

$(READY): requirement.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "spic needs Python 3.10 or newer; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirement.txt
	touch $(READY)

clean:
	rm -rf $(VENV) spic.egg-info
