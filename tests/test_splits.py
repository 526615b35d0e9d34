"""``spic splits``: what the table says is what the network is."""

import json

import pytest

from spic import splits
from spic.splits import Split, Splits, find_splits, link, select, text

SOURCE = """
import torch


def net():
    return torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), torch.nn.BatchNorm2d(8),
                               torch.nn.ReLU(), torch.nn.Conv2d(8, 4, 3, stride=2, padding=1), torch.nn.ReLU(),
                               torch.nn.Flatten(), torch.nn.Linear(4 * 8 * 8, 10))
def alone():
    return torch.nn.Conv2d(3, 2, 1)
"""


@pytest.fixture
def name(tmp_path):
    (tmp_path / "mine.py").write_text(SOURCE)
    return f"{tmp_path / 'mine.py'}:net"


def command(capsys, *words):
    code = splits.main([*map(str, words)])
    return code, *capsys.readouterr()


def test_parameters_and_multiplications_are_those_of_the_layers(name):
    found = find_splits(name, size=32, repeats=1)
    conv, second, last = 8 * 27, 4 * 72 + 4, 256 * 10 + 10
    by_name = {split.name: split for split in found.splits}
    assert found.parameters == conv + 16 + second + last
    assert (by_name["0"].parameters, by_name["2"].parameters, by_name["3"].parameters) == (conv, conv + 16, conv + 16 + second)
    assert by_name["0"].macs == conv * 16 * 16
    assert found.macs == conv * 16 * 16 + 4 * 72 * 8 * 8 + 2560
    assert (by_name["4"].shape, by_name["4"].bytes) == ((4, 8, 8), 256)
    assert by_name["4"].of_jpeg == 256 / found.jpeg_bytes


def test_front_latencies_grow_with_depth_up_to_the_whole(name):
    found = find_splits(name, size=32, repeats=3)
    times = [split.front_ms for split in found.splits]
    assert times == sorted(times) and 0 < times[-1] <= found.whole_ms


def test_a_link_adds_the_time_to_answer_and_marks_the_fastest(name):
    found = find_splits(name, size=32, link_bits_per_s=8e3, repeats=1)
    assert {split.name: split.answer_ms - found.whole_ms for split in found.splits}["4"] == pytest.approx(256)
    assert found.best in ("3", "4") and found.jpeg_answer_ms == pytest.approx(found.whole_ms + found.jpeg_bytes)


def split(name, shape=(4, 8, 8), macs=0.5, size=256, answer=None):
    return Split(name, shape, 1, 0.1, 1, macs, size, 1.0, 1.0, answer)


def found(*rows, best=None):
    return Splits("net", (32, 32), 10, 10, 1.0, 100, 1e6 if best else None, 2.0 if best else None, best, list(rows))


def test_a_place_that_the_next_one_repeats_is_left_out():
    rows = [split("conv", macs=0.5), split("bn", macs=0.501), split("block", macs=0.9), split("pool", (4, 1, 1), 0.9)]
    assert [row.name for row in select(found(*rows))] == ["bn", "block", "pool"]
    assert select(found(*rows), everything=True) == rows


def test_top_keeps_the_smallest_or_the_fastest_in_the_order_of_the_network():
    rows = [split("a", (1,), size=9, answer=5), split("b", (2,), size=1, answer=9), split("c", (3,), size=4, answer=1)]
    assert [row.name for row in select(found(*rows, best="c"), top=2)] == ["a", "c"]
    unlinked = [split("a", (1,), size=9), split("b", (2,), size=1), split("c", (3,), size=4)]
    assert [row.name for row in select(found(*unlinked), top=2)] == ["b", "c"]


def test_the_table_fits_80_columns_whatever_the_names():
    rows = [split("features.denseblock1.denselayer1.convolution.of.a.very.long.name", (2048, 112, 112), size=25_690_112, answer=99999)]
    lines = text(found(*rows, best="x"), 5).splitlines()
    assert max(map(len, lines)) <= 80
    assert any("~" in line for line in lines) and any("4 of 5 places are left out" in line for line in lines)


def test_the_command_prints_a_table_and_writes_all_places(name, tmp_path, capsys):
    code, out, _ = command(capsys, name, "--size", 32, "--link", "1Mbit/s", "--repeats", 1, "--output", tmp_path / "all.json")
    assert code == 0 and "cut after" in out and sum(line.startswith("* ") for line in out.splitlines()) == 1
    assert [row["name"] for row in json.loads((tmp_path / "all.json").read_text())["splits"]] == ["0", "1", "2", "3", "4"]


def test_json_holds_what_the_table_shows(name, capsys):
    code, out, _ = command(capsys, name, "--size", 32, "--json", "--top", 1, "--repeats", 1)
    assert code == 0 and [row["name"] for row in json.loads(out)["splits"]] in (["3"], ["4"])


@pytest.mark.parametrize("words,message", [
    (["torchvision:resnet19"], "nearest are"),
    (["{alone}"], "no place where a single tensor crosses"),
    (["{net}", "--photo", "missing.jpg"], "cannot read the image missing.jpg"),
    (["{net}", "--size", "33"], "does not take pictures of"),
    (["{net}", "--weights", "missing.pth"], "missing.pth: no such file"),
])
def test_bad_input_is_one_line_and_exit_code_2(name, capsys, words, message):
    places = {"net": name, "alone": name.replace(":net", ":alone")}
    code, out, err = command(capsys, *(word.format(**places) for word in words))
    assert code == 2 and not out and message in err and err.count("\n") == 1


def test_a_rate_that_is_none_is_refused(capsys):
    with pytest.raises(SystemExit) as stopped:
        splits.main(["torchvision:resnet18", "--link", "fast"])
    assert stopped.value.code == 2 and "is no data rate" in capsys.readouterr().err


@pytest.mark.parametrize("text,bits", [("1Mbit/s", 1e6), ("250kbit/s", 25e4), ("2MB/s", 16e6), ("0.5 Gbps", 5e8)])
def test_rates(text, bits):
    assert link(text) == bits
