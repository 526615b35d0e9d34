# make run   sets up .venv, installs requirement.txt, runs one point of both curves on the embedded benchmark, and sends one
#            picture from edge to cloud: spic-try.png shows it
# make test  the same environment, then the layers of the package (pyproject.toml) and the tests
# make test-optional  the tests of what needs the optional groups, in .venv-optional
# make train-scenes  train everything that Weights/scenes and Freq_tab/scenes hold (hours)
# make study  train over seeds, measure, and judge the papers' claims (docs/reproduction.md)
PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
READY := $(VENV)/.ready
OPTIONAL := .venv-optional
OPTIONAL_GROUPS := rivals,timm,edge,export,cloud,photos,ray
OPTIONAL_TESTS := rivals_ edge export cloud_ benchmarks_photos encode ray
OPTIONAL_READY := $(OPTIONAL)/.ready

# two processes, each a file of tests at a time: each has a cache folder of its own
SIDE_BY_SIDE := -n 2 --dist loadfile

.PHONY: run test test-optional train-scenes study figure-scenes figure-imagenet figure-coco clean

run: $(READY)
	cd Classification && $(BIN)/python val.py --split_point S1 --compress_factor 1
	cd Segmentation && $(BIN)/python val.py --split_point S1 --compress_factor 1
	$(BIN)/spic try --output spic-try.png

test: $(READY)
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m pytest $(SIDE_BY_SIDE)

test-optional: $(OPTIONAL_READY)
	$(OPTIONAL)/bin/python -m pytest $(SIDE_BY_SIDE) $(sort $(foreach of,$(OPTIONAL_TESTS),$(wildcard tests/test_$(of)*.py)) $(shell grep -lw timm tests/test_*.py))

train-scenes: $(READY)
	$(BIN)/spic backbone --benchmark scenes --task classification
	$(BIN)/spic backbone --benchmark scenes --task segmentation
	$(BIN)/spic grid --benchmark scenes
	$(BIN)/spic recount --task classification --split_point all --compress_factor all --tables context --pictures 6000 --force

# The claims of the papers on the benchmark at hand: BENCHMARK=imagenette DATA=DIR, or nothing for the scenes.
study: $(READY)
	$(BIN)/spic study train --benchmark $(or $(BENCHMARK),scenes) $(if $(DATA),--data $(DATA))
	$(BIN)/spic study measure --benchmark $(or $(BENCHMARK),scenes) $(if $(DATA),--data $(DATA))
	$(BIN)/spic study report

# The paper's figure on measured points and rivals (HEVC and AV1 need the optional group: pip install -e '.[rivals]'; of their
# variants those that came near to being the cheapest).
PLAIN := jpeg webp jpeg2000 avif hevc av1
figure-scenes: $(READY)
	$(BIN)/spic curves run --task classification --tables shared --codecs $(PLAIN) hevc-qp hevc-444 avif-444 hevc@75 avif@75 --output Figures/scenes-classification
	$(BIN)/spic curves run --task segmentation --tables shared --codecs $(PLAIN) --output Figures/scenes-segmentation

# VALDIR=DIR, and where they differ: GPU=False, BACKBONE=FILE (a torchvision state dict; default: torchvision's own).
figure-imagenet figure-coco: $(READY)
	@test -n "$(VALDIR)" || { echo "say where the pictures are: make $@ VALDIR=DIR" >&2; exit 2; }
	$(BIN)/spic curves run --task $(if $(filter figure-coco,$@),segmentation,classification) \
	  --valdir $(VALDIR) $(if $(BACKBONE),--backbone_weights $(BACKBONE)) --gpu $(or $(GPU),True) --output Figures/$(subst figure-,,$@)

$(READY): requirement.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "spic needs Python 3.11 or newer; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirement.txt
	touch $(READY)

# .venv-optional sees the packages of .venv (a .pth file), so torch is not installed twice. compressai declares numpy<2 but
# works with numpy 2: it comes without its dependencies, and those that it imports are named here.
$(OPTIONAL_READY): $(READY) pyproject.toml
	$(BIN)/python -m venv $(OPTIONAL)
	$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
	  > `$(OPTIONAL)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))'`/of_venv.pth
	$(OPTIONAL)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps 'compressai>=1.2.8'
	$(OPTIONAL)/bin/python -m pip install --quiet --disable-pip-version-check \
	  -e '.[$(OPTIONAL_GROUPS)]' einops pandas pytorch-msssim torch-geometric
	touch $(OPTIONAL_READY)

clean:
	rm -rf $(VENV) $(OPTIONAL) spic-try.png
