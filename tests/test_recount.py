"""The command that counts frequency tables: every point asked for, from one pass of the network, resumable."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from test_pipeline import NETWORK, point_with

from spic.benchmarks.own import own_benchmark
from spic.coding import FrequencyTable
from spic.datasets.folder import Unlabelled
from spic.networks import cut, zoo
from spic.networks.fold import fold_batch_norm
from spic.parts import load_bottleneck, load_table
from spic.points import load_points
from spic.quantize import quantize
from spic.training import recount

PICTURES, SIDE = 12, 64


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder, generator = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for i in range(PICTURES):
        Image.fromarray(generator.integers(0, 255, (80, 90, 3), dtype=np.uint8)).save(folder / f"{i:02d}.png")
    return folder


@pytest.fixture
def points(tmp_path):
    return point_with(tmp_path, network=f"{NETWORK}@{SIDE}")


@pytest.fixture
def run(tmp_path, points, photos, monkeypatch, capsys):
    """Runs the command on two points of a user's network; returns exit code, stdout, stderr and passes."""
    monkeypatch.setenv("SPIC_CACHE", str(tmp_path / "cache"))
    passes = []
    compute = recount.compute
    monkeypatch.setattr(recount, "compute", lambda *given: passes.append(given[1]) or compute(*given))

    def command(*more, data=("--data", str(photos))):
        passes.clear()
        code = recount.main(["--task", "classification", "--benchmark", "mine", "--points", str(tmp_path / "dict.yaml"),
                             *data, *more])
        told = capsys.readouterr()
        return code, told.out, told.err, list(passes)
    return command


@torch.inference_mode()
def symbols_of(point, photos):
    benchmark = own_benchmark("classification", "mine", point.network)
    dataset = Unlabelled(photos, benchmark.preparation)
    images = torch.stack([dataset[i] for i in range(PICTURES)])
    feature = cut(zoo.find(point.network).build(), point.cut, images[:1])[0](images)
    bottleneck = load_bottleneck(point, benchmark, tuple(feature.shape[1:]), (SIDE, SIDE))
    return quantize(fold_batch_norm(bottleneck).encoder(feature), point.step)


def test_every_table_counts_the_symbols_of_its_point_from_one_pass(run, points, photos):
    code, _, _, passes = run("--tables", "channel", "position")
    assert code == 0 and passes == [["layer3.4"]]
    for point in points:
        for kind in ("channel", "position"):
            expected = FrequencyTable.from_symbols(symbols_of(point, photos), point.step, kind)
            found = load_table(point.with_tables(kind))
            assert found.total == expected.total
            assert found.entropy == pytest.approx(expected.entropy, rel=0.02)


def test_what_is_there_is_kept_and_an_interrupted_run_is_completed(run, points):
    shared = points[0].table.read_bytes()
    assert run()[0] == 0
    assert points[0].table.read_bytes() == shared, "the shared table was there"
    code, out, _, passes = run()
    assert code == 0 and not passes and out.count(": kept ") == 8
    missing, damaged = points[0].with_tables("channel").table, points[1].with_tables("position").table
    before = missing.read_bytes(), damaged.read_bytes()
    missing.unlink()
    damaged.write_text("{")
    code, out, _, passes = run()
    assert out.count(": kept ") == 6 and len(passes) == 1
    assert (missing.read_bytes(), damaged.read_bytes()) == before


def test_force_counts_anew_and_points_can_be_chosen(run, points):
    before = [point.table.read_bytes() for point in points]
    assert run("--force", "--tables", "shared", "--split_point", "S3", "--compress_factor", "1", "--pictures", "5")[0] == 0
    assert points[0].table.read_bytes() == before[0] and points[1].table.read_bytes() != before[1]
    assert load_table(points[1]).total == 5 * 6 * 2 * 2


def test_another_folder_gets_tables_and_checksums(run, points, tmp_path):
    assert run("--output", str(tmp_path / "other"), "--tables", "channel")[0] == 0
    assert (tmp_path / "other/Freq_tab/mine/S3/classification_1.channel.json").exists()
    assert not points[1].with_tables("channel").table.exists()
    assert run("--output", str(tmp_path / "other"), "--tables", "channel")[3] == []


def test_one_bottleneck_serves_several_rates(run, points, photos, tmp_path):
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.suffix in (".json", ".safetensors", ".yaml")}
    more, asked = tmp_path / "more", ("--tables", "position", "--output", str(tmp_path / "more"))
    code, out, _, passes = run("--step", "1", "0.125", *asked)
    assert code == 0 and passes == [["layer3.4"]] and "classification/mine/S3/2: classification/mine/S3/1 by step 0.125" in out
    made = list(load_points(more / "dict.yaml").values())
    assert [(point.compress_factor, point.step) for point in made] == [(0, 0.125), (1, 1.0), (2, 0.125), (3, 1.0)]
    assert [point.weights.relative_to(more) for point in made] == [points[i // 2].weights.relative_to(tmp_path) for i in range(4)]
    assert (made[3].network, made[3].cut) == (points[1].network, points[1].cut)
    for point, source in zip(made, (points[0], points[0], points[1], points[1])):
        symbols = symbols_of(replace(source, step=point.step), photos)
        for kind in ("shared", "position"):
            assert load_table(point.with_tables(kind)).total == symbols.numel()
        assert load_table(point).entropy == pytest.approx(FrequencyTable.from_symbols(symbols, point.step).entropy, rel=0.02)
    assert {file: file.read_bytes() for file in before} == before, "nothing that was there is overwritten"
    assert run("--step", "0.125", "1", *asked)[3] == [], "what was counted is kept"
    code, _, err, _ = run("--step", "0.125", "2", *asked)
    assert code == 2 and "classification/mine/S3/1 is another point there (step 1)" in err


def test_points_of_other_steps_need_a_folder_of_their_own(run, tmp_path):
    for asked, message in ((("--step", "1"), "--output DIR must name a folder"),
                           (("--step", "1", "--output", str(tmp_path)), "choose another folder")):
        code, _, err, _ = run(*asked)
        assert code == 2 and message in err and len(err.strip().splitlines()) == 1
    for step in ("0", "-1", "nan", "inf", "x"):
        with pytest.raises(SystemExit):
            run("--step", step, "--output", str(tmp_path / "more"))


def test_a_table_of_another_step_is_counted_anew(run, points, tmp_path):
    """An interrupted run with other steps leaves tables that no dict.yaml lists."""
    asked = ("--compress_factor", "0", "--tables", "shared", "--output", str(tmp_path / "more"))
    assert run("--step", "0.5", *asked)[0] == 0
    (tmp_path / "more/dict.yaml").unlink()
    assert run("--step", "2", *asked)[0] == 0
    point, = load_points(tmp_path / "more/dict.yaml").values()
    assert load_table(point).step == point.step == 2


@pytest.mark.parametrize("arguments, message", [
    (["--compress_factor", "9"], "unknown compress factor '9'"),
    (["--unlabelled"], "--data DIR is missing"),
    ([], "mine: say where the pictures are"),
    (["--unlabelled", "--data", "nowhere"], "nowhere: no such folder"),
])
def test_bad_input_is_one_line(run, arguments, message):
    code, _, err, _ = run(*arguments, data=())
    assert code == 2 and message in err and len(err.strip().splitlines()) == 1


def test_a_published_point_that_is_no_split_is_refused(capsys):
    code = recount.main(["--task", "segmentation", "--benchmark", "coco", "--split_point", "S1", "S2"])
    assert code == 2 and "segmentation/coco/S1/0" in (err := capsys.readouterr().err) and "no split" in err


def test_published_tables_are_not_overwritten(capsys):
    """Its checksum is the one in the manifest."""
    code = recount.main(["--task", "classification", "--benchmark", "imagenet", "--split_point", "S3", "--force"])
    line, = capsys.readouterr().err.strip().splitlines()
    assert code == 2 and "classification/imagenet/S3/0 (and 5 more): published tables are not overwritten" in line
    assert "--output DIR" in line


def test_tables_of_published_points_may_be_counted_elsewhere_and_in_other_kinds(run, points, monkeypatch, tmp_path):
    monkeypatch.setitem(recount.PUBLISHED, "classification", "mine")
    before = points[0].table.read_bytes()
    assert run("--force", "--tables", "shared")[0] == 2 and points[0].table.read_bytes() == before
    assert run("--force", "--tables", "channel")[0] == 0
    assert run("--force", "--tables", "shared", "--output", str(tmp_path / "other"))[0] == 0
    assert points[0].table.read_bytes() == before


def test_it_is_a_function_too(points, photos, tmp_path, monkeypatch):
    monkeypatch.setenv("SPIC_CACHE", str(tmp_path / "cache"))
    told = []
    counted = recount.recount(points, ["channel"], data=photos, unlabelled=True, pictures=5, tell=told.append)
    assert counted == {point: ["channel"] for point in points} and len(told) == 2
    assert load_table(points[0].with_tables("channel")).total == 5 * 6 * 2 * 2
    assert recount.recount(points, ["channel"], data=photos, tell=told.append) == {}
