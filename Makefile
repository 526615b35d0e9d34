# make run   sets up .venv, installs requirement.txt and runs one point of both curves on the embedded benchmark
# make test  the same environment, then the tests
# make train-scenes  train everything that Weights/scenes and Freq_tab/scenes hold (hours)
# make study  train over seeds, measure, and judge the papers' claims (docs/reproduction.md)
PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
READY := $(VENV)/.ready

.PHONY: run test train-scenes study figure-scenes figure-imagenet figure-coco clean

run: $(READY)
	cd Classification && $(BIN)/python val.py --split_point S1 --compress_factor 1
	cd Segmentation && $(BIN)/python val.py --split_point S1 --compress_factor 1

test: $(READY)
	$(BIN)/python -m pytest

train-scenes: $(READY)
	$(BIN)/python -m spic.training.backbone --benchmark scenes --task classification
	$(BIN)/python -m spic.training.backbone --benchmark scenes --task segmentation
	$(BIN)/python -m spic.training.grid --benchmark scenes

# The claims of the papers on the benchmark at hand: BENCHMARK=imagenette DATA=DIR, or nothing for the scenes.
study: $(READY)
	$(BIN)/python -m spic.study train --benchmark $(or $(BENCHMARK),scenes) $(if $(DATA),--data $(DATA))
	$(BIN)/python -m spic.study measure --benchmark $(or $(BENCHMARK),scenes) $(if $(DATA),--data $(DATA))
	$(BIN)/python -m spic.study report

# The paper's figure on measured points and rivals (HEVC and AV1 need the optional group: pip install -e .[rivals]).
figure-scenes: $(READY)
	$(BIN)/python -m spic.curves run --task classification --output Figures/scenes-classification
	$(BIN)/python -m spic.curves run --task segmentation --output Figures/scenes-segmentation

# VALDIR=DIR, and where they differ: GPU=False, BACKBONE=FILE (a torchvision state dict; default: torchvision's own).
figure-imagenet figure-coco: $(READY)
	@test -n "$(VALDIR)" || { echo "say where the pictures are: make $@ VALDIR=DIR" >&2; exit 2; }
	$(BIN)/python -m spic.curves run --task $(if $(filter figure-coco,$@),segmentation,classification) \
	  --valdir $(VALDIR) $(if $(BACKBONE),--backbone_weights $(BACKBONE)) --gpu $(or $(GPU),True) --output Figures/$(subst figure-,,$@)

$(READY): requirement.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "spic needs Python 3.10 or newer; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirement.txt
	touch $(READY)

clean:
	rm -rf $(VENV) spic.egg-info
