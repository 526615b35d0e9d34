"""spic train as a user meets it: any network, any folder of pictures, any state dict, bad input in one line."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spic import val
from spic.coding.counting import KINDS
from spic.networks import zoo
from spic.networks.weights import fingerprint
from spic.parts import load_table, trained_behind
from spic.points import load_points
from spic.training import curve, recount
from spic.training.command import main
from spic.training.fit import History
from spic.training.outcome import still_falling

NETWORK = '''
import torch
from torch import nn
from spic.datasets.images import Preparation

NUM_CLASSES, PREPARATION = 3, Preparation(40, 32)

def signed():
    torch.manual_seed(0)
    first = [nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, 2, 1), nn.BatchNorm2d(16)]
    return nn.Sequential(*first, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 3))

def tokens():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 24, 8, 8), nn.Flatten(2), Transposed(), nn.LayerNorm(24), nn.Linear(24, 24), Mean(),
                         nn.Linear(24, 3))

class Transposed(nn.Module):
    def forward(self, x):
        return x.transpose(1, 2)

class Mean(nn.Module):
    def forward(self, x):
        return x.mean(1)
'''


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    path = tmp_path_factory.mktemp("network") / "mine.py"
    path.write_text(NETWORK)
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Twelve pictures of several sizes, some in folders; no labels anywhere."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for i in range(12):
        path = folder / ("." if i % 3 else f"album {i}") / f"{i}.{'png' if i % 2 else 'JPG'}"
        path.parent.mkdir(exist_ok=True)
        size = (60 + 40 * (i % 4), 200 - 12 * i, 3)
        Image.fromarray(rng.integers(0, 255, size, dtype=np.uint8)).save(path)
    return folder


@pytest.fixture
def argv(network, tmp_path):
    def of(data, *more, output=tmp_path / "out", split_point="US1", function="signed", cut="4"):
        return ["--network", f"{network}:{function}", "--cut", cut, "--data", str(data), "--output", str(output),
                "--split_point", split_point, "--steps", "4", "--batch_size", "6", *more]
    return of


@pytest.fixture
def train(argv, capsys):
    """Runs the command; returns exit code, what it wrote on stderr, and on stdout."""
    def run(data, *more, **other):
        code = main("classification", argv(data, *more, **other))
        told = capsys.readouterr()
        return code, told.err, told.out
    return run


def refused(outcome, *words):
    code, err = outcome[:2]
    line = err.strip().splitlines()[-1].replace("\x1b[A", "")  # a bar of an earlier case, not collected yet, moves the cursor
    return code == 2 and line.startswith("error: ") and all(word in line for word in words)


def points_of(folder, benchmark="own", split_point="US1"):
    return {key[3]: point for key, point in load_points(folder / "dict.yaml").items()
            if key[:3] == ("classification", benchmark, split_point)}


def test_unlabelled_pictures_and_a_network_of_ones_own_become_a_point_that_val_can_load(train, photos, tmp_path, network):
    code, _, out = train(photos)
    assert code == 0
    point = points_of(tmp_path / "out")[0]
    assert point.weights.exists() and point.table.exists() and (point.stride, point.channels, point.cut) == (2, 8, "4")
    assert point.network == f"{network}:signed" and point.activation == "none", "behind a BatchNorm features are signed"
    *lines, compared = map(json.loads, (tmp_path / "out/runs/classification/own/US1/0.jsonl").read_text().splitlines())
    assert lines[-1]["step"] == 4
    assert compared["coded_bpp"] == pytest.approx(compared["entropy_bpp"], rel=0.2, abs=8 / 32 ** 2)
    assert compared["predicted_bpp"] > 0
    for kind in KINDS:
        assert load_table(point.with_tables(kind)).counts == load_table(point).counts
    assert f"--points {tmp_path / 'out' / 'dict.yaml'} --benchmark own --split_point US1 --compress_factor 0" in out


@pytest.mark.parametrize("form, where", [("conv2", {}), ("separable2", {}), ("conv", {"function": "tokens", "cut": "4"})])
def test_another_topology_is_trained_measured_and_counted_anew(train, photos, tmp_path, monkeypatch, form, where):
    """The second point starts from the first one's file; val and recount build the form that dict.yaml names."""
    monkeypatch.setenv("SPIC_CACHE", str(tmp_path / "cache"))
    more = ("--form", form, "--lambda", "1", "5", "--step", "0.02", "--processes", "1", "--tables", "channel")
    assert train(photos, *more, **where)[0] == 0
    points, listed = points_of(tmp_path / "out"), ["--task", "classification", "--benchmark", "own", "--split_point", "US1"]
    assert [point.form for point in points.values()] == [form, form]
    before = load_table(points[0].with_tables("channel"))
    catalogue = ["--points", str(tmp_path / "out" / "dict.yaml"), "--compress_factor", "all"]
    assert recount.main([*listed, *catalogue, "--data", str(photos), "--tables", "channel", "--force"]) == 0
    assert load_table(points[0].with_tables("channel")).digest == before.digest
    assert val.main("classification", [*listed[2:], *catalogue, "--data", str(photos), "--coder", "rans", "--tables", "channel",
                                       "--workers", "0", "--output", str(tmp_path / "records")]) == 0
    records = [json.loads(file.read_text()) for file in sorted((tmp_path / "records").glob("*.json"))]
    assert len(records) == 2 and all(record["images"] == 12 and record["bpp"] > 0 for record in records)


def test_the_weights_say_which_network_and_size_they_were_trained_behind(train, photos, tmp_path):
    assert train(photos, "--size", "48")[0] == 0
    point = points_of(tmp_path / "out")[0]
    built = zoo.find(point.network).build()
    assert point.network.endswith(":signed@48")
    assert trained_behind(point) == {"network": fingerprint(built), "image_size": "48x48"}


def test_several_lambdas_are_a_curve_that_shares_its_features(train, photos, tmp_path, monkeypatch):
    passes, compute = [], curve.compute
    monkeypatch.setattr(curve, "compute", lambda *given, **more: passes.append(given[1]) or compute(*given, **more))
    code, _, out = train(photos, "--lambda", "10", "50", "200", "--compress_factor", "2")
    assert code == 0 and passes == [["4"]], "the pictures that are learned from are also counted, all of them"
    assert sorted(points_of(tmp_path / "out")) == [2, 3, 4]
    steps = [json.loads(line).get("step") for factor in (2, 3, 4)
             for line in (tmp_path / f"out/runs/classification/own/US1/{factor}.jsonl").read_text().splitlines()]
    assert [step for step in steps if step] == [1, 2, 3, 4, 1, 2, 1, 2], "neighbours take half the steps"
    told = [line.split()[:3] for line in out.splitlines()[:3]]
    assert told == [[f"classification/own/US1/{factor}", "lambda", weight] for factor, weight in ((2, "10"), (3, "50"), (4, "200"))]


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_curve_does_not_depend_on_how_many_points_are_trained_at_a_time(train, photos, tmp_path, processes):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    more = ["--lambda", "10", "50", "200"]
    assert train(photos, *more, "--processes", processes, output=tmp_path / processes)[0] == 0
    assert train(photos, *more, output=tmp_path / "one")[0] == 0
    torch.set_num_threads(before)
    for factor in range(3):
        names = [points_of(tmp_path / place)[factor].weights for place in (processes, "one")]
        assert names[0].read_bytes() == names[1].read_bytes()


def test_tokens_are_coded_without_a_stride(train, photos, tmp_path):
    assert train(photos, function="tokens", cut="4", split_point="middle")[0] == 0
    point = points_of(tmp_path / "out", split_point="middle")[0]
    assert (point.stride, point.channels, point.activation) == (1, 8, "none")
    assert refused(train(photos, "--stride", "2", function="tokens", cut="4", output=tmp_path / "other"), "no rows and columns")


def test_the_activation_can_be_given(train, photos, tmp_path):
    assert train(photos, "--activation", "relu")[0] == 0
    assert points_of(tmp_path / "out")[0].activation == "relu"


@pytest.mark.parametrize("kind", KINDS)
def test_one_kind_of_table_is_written_beside_the_shared_one(train, photos, tmp_path, kind):
    assert train(photos, "--tables", kind)[0] == 0
    point = points_of(tmp_path / "out")[0]
    found = [other for other in KINDS if point.with_tables(other).table.exists()]
    assert found == [other for other in KINDS if other in ("shared", kind)]
    assert (load_table(point.with_tables(kind)).index is None) == (kind == "shared")
    assert point.default_tables == kind, "what codes when nobody asks is there"


def test_a_second_call_joins_the_curve_and_a_run_is_not_overwritten(train, photos, tmp_path):
    assert train(photos)[0] == 0
    assert train(photos, "--compress_factor", "1", "--lambda", "99")[0] == 0
    assert len(points_of(tmp_path / "out")) == 2
    assert refused(train(photos), "already holds the run", "--resume")


def test_resuming_another_run_says_what_differs(train, photos, tmp_path):
    assert refused(train(photos, "--resume"), "nothing to resume")
    assert train(photos)[0] == 0
    code, _, out = train(photos, "--resume")
    assert code == 0 and "finished before" in out
    assert refused(train(photos, "--resume", "--lambda", "99"), "weight is 10.0 there and 99.0 here")
    before = points_of(tmp_path / "out")[0].weights.read_bytes()
    state = zoo.find(points_of(tmp_path / "out")[0].network).build().state_dict()
    torch.save({name: value + 1 for name, value in state.items()}, tmp_path / "other.pth")
    assert refused(train(photos, "--resume", "--weights", str(tmp_path / "other.pth")), "network is", "there and"), \
        "a network that was replaced"
    assert points_of(tmp_path / "out")[0].weights.read_bytes() == before


def test_an_interruption_says_how_to_go_on(train, photos, tmp_path, monkeypatch):
    """Before the first checkpoint there was nothing to resume, and no hint."""
    def interrupt(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(curve, "fit", interrupt)
    code, err, _ = train(photos)
    assert code == 130 and "before the first checkpoint" in err and "without --resume" in err
    monkeypatch.undo()
    assert train(photos)[0] == 0
    monkeypatch.setattr(curve, "fit", interrupt)
    code, err, _ = train(photos, "--compress_factor", "0", "--lambda", "10", "20", "--resume")
    assert code == 130 and "with --resume goes on at the last checkpoint" in err


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_killed_training_resumes_to_the_same_files(argv, photos, tmp_path, processes):
    """kill -9, three times: weights, tables, dict.yaml and logs are those of a training that was left alone."""
    def start(output, *more):
        words = argv(photos, "--steps", "400", "--lambda", "10", "50", "--processes", processes, *more, output=output)
        code = "import sys\nfrom spic.training import fit\nfit.CHECKPOINT_SECONDS = 0.2\nfrom spic.training.command import main\n" \
            "raise SystemExit(main('classification', sys.argv[1:]))"
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(curve.__file__).parents[2])}
        return subprocess.Popen([sys.executable, "-c", code, *words], env=environment, stderr=subprocess.PIPE, text=True)

    alone, killed = tmp_path / "alone", tmp_path / "killed"
    assert start(alone).wait() == 0
    for seconds in (0.5, 1.0, 1.5):
        run = start(killed, *(["--resume"] if any(killed.rglob("*.pt")) else []))
        deadline = time.monotonic() + 120
        while not any(killed.rglob("*.jsonl")) and run.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(seconds)
        run.send_signal(signal.SIGKILL)
        run.wait()
    time.sleep(1.5)  # workers of a killed process end by themselves
    last = start(killed, *(["--resume"] if any(killed.rglob("*.pt")) else []))
    assert last.wait() == 0, last.stderr.read()
    for file in sorted(alone.rglob("*")):
        other = killed / file.relative_to(alone)
        if file.suffix == ".jsonl":
            assert _without_seconds(file) == _without_seconds(other)
        elif file.is_file() and file.suffix != ".pt":
            assert file.read_bytes() == other.read_bytes(), file


def _without_seconds(log):
    return [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in log.read_text().splitlines()]


def test_the_last_line_says_whether_the_rate_was_still_falling(train, photos, monkeypatch, tmp_path):
    last = train(photos, "--lambda", "10", "50")[2].strip().splitlines()[-1]
    assert last.startswith("the rate was STILL FALLING at US1/0, US1/1") and "--steps 12" in last
    monkeypatch.setattr("spic.training.outcome.still_falling", lambda history: ())
    last = train(photos, output=tmp_path / "other")[2].strip().splitlines()[-1]
    assert last == "no rate was falling any more: the training was long enough"


@pytest.mark.parametrize("bpp, falling", [
    (lambda t: 0.04 * 0.7 ** t, ("bpp",)),  # at the beginning of its way down, however slow
    (lambda t: 0.002 + 0.04 * 0.1 ** (8 * t), ()),  # it has arrived
    (lambda t: 0.003 + 0.0001 * t, ()),
    (lambda t: 0.003 * (1.01 - 0.02 * t), ()),  # by less than the noise of batches
])
def test_a_rate_is_falling_if_much_of_its_way_down_lay_in_the_second_half(bpp, falling):
    history = History(200)
    history.terms[:, 0] = 1.0
    history.terms[:, 1] = torch.tensor([bpp(step / 200) for step in range(200)])
    assert still_falling(history) == falling


def test_an_empty_folder_is_refused(train, tmp_path):
    (tmp_path / "empty").mkdir()
    assert refused(train(tmp_path / "empty"), "empty", "no picture")
    assert refused(train(tmp_path / "missing"), "missing", "no such folder")


def test_an_unreadable_picture_is_named(train, tmp_path):
    (tmp_path / "bad").mkdir()
    Image.new("RGB", (50, 50)).save(tmp_path / "bad" / "a.jpg")
    (tmp_path / "bad" / "b.jpg").write_bytes(b"\xff\xd8 not a picture")
    assert refused(train(tmp_path / "bad"), "b.jpg")


@pytest.fixture
def labelled(tmp_path):
    for i in range(12):
        folder = tmp_path / "labelled" / "abc"[i % 3]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (60, 60), (20 * i, 0, 90)).save(folder / f"{i}.png")
    return tmp_path / "labelled"


def test_labels_are_needed_by_a_supervised_point_alone(train, photos, labelled, tmp_path):
    assert refused(train(photos, split_point="S1"), "no labels", "--distortion distill")
    assert train(labelled, split_point="S1")[0] == 0
    assert train(photos, "--distortion", "distill", split_point="S1", output=tmp_path / "other")[0] == 0


def test_pictures_kept_for_evaluation_are_not_learned_from(train, photos, tmp_path, monkeypatch):
    (tmp_path / "set").mkdir()
    for part in ("train", "val"):
        (tmp_path / "set" / part).symlink_to(photos)
    seen, views = [], curve.Views
    monkeypatch.setattr(curve, "Views", lambda dataset, *given, **more: seen.append(dataset) or views(dataset, *given, **more))
    assert train(tmp_path / "set")[0] == 0
    assert len(seen[0]) == 12 and {Path(path).relative_to(tmp_path / "set").parts[0] for path in seen[0].paths} == {"train"}


def test_a_benchmark_of_the_project_keeps_its_cuts_and_geometry(photos, tmp_path):
    common = ["--benchmark", "imagenette", "--data", str(photos), "--weights", "random", "--split_point", "US1", "--steps", "1",
              "--channels", "4", "--limit", "4", "--tables", "shared"]
    assert main("classification", [*common, "--output", str(tmp_path / "out")]) == 0
    point = points_of(tmp_path / "out", "imagenette")[0]
    assert (point.network, point.cut, point.activation) == (None, None, "relu") and trained_behind(point) == {}


def test_weights_of_another_class_count_are_refused(train, photos, tmp_path):
    torch.save(torch.nn.Linear(3, 3).state_dict(), tmp_path / "other.pth")
    assert refused(train(photos, "--weights", str(tmp_path / "other.pth")), "other.pth", "do not fit the network")


@pytest.mark.parametrize("option, value", [("--step", "0"), ("--lr", "0"), ("--lambda", "-1"), ("--lambda", "nan"),
                                           ("--split_point", "a/b"), ("--benchmark", "")])
def test_values_out_of_range_are_refused(train, photos, option, value):
    assert refused(train(photos, option, value), option)


@pytest.mark.parametrize("words, message", [
    (["--network", "torchvision:resnet9"], "unknown network of torchvision 'resnet9'; the nearest are"),
    (["--cut", "layer9"], "unknown cut 'layer9'"),
    (["--cut", "8"], "nothing lies behind it"),
    (["--network", "torchvision:lraspp_mobilenet_v3_large"], "answers segmentation, not classification"),
    (["--size", "5000"], "1 to 4096 pixels"),
])
def test_unknown_networks_and_cuts_are_refused(train, photos, words, message):
    assert refused(train(photos, *words), message)


def test_scenes_take_no_folder(photos, tmp_path, capsys):
    """It was ignored, and pictures drawn."""
    words = ["--benchmark", "scenes", "--data", "/does/not/exist", "--output", str(tmp_path / "out")]
    assert refused((main("classification", words), capsys.readouterr().err), "/does/not/exist", "scenes are drawn")


def test_the_published_point_that_is_no_split_is_not_trained(photos, tmp_path, capsys):
    words = ["--benchmark", "coco", "--data", str(photos), "--weights", "random", "--split_point", "US1", "--output",
             str(tmp_path / "out")]
    assert refused((main("segmentation", words), capsys.readouterr().err), "no split", "--cut")


def test_nobody_but_the_user_says_where_to_cut(network, photos, tmp_path, capsys):
    words = ["--network", f"{network}:signed", "--data", str(photos), "--split_point", "US1", "--output", str(tmp_path / "out")]
    assert refused((main("classification", words), capsys.readouterr().err), "nobody says where US1 cuts", "--cut")
