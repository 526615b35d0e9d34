"""python -m spic.curves: its verbs, and bad input."""

from argparse import Namespace
from pathlib import Path

import pytest

from curve_cases import record, rival, write
from spic.benchmarks import find
from spic.curves import measure, tables
from spic.curves.__main__ import main
from spic.curves.results import read
from spic.points import load_points, select


def test_figure_command_writes_all_five_files(tmp_path, capsys):
    source = write(tmp_path, *(record(factor=i, bpp=0.1 * 2**i, top1=70.0 + i) for i in range(3)),
                   *(rival(quality=q, bpp=0.5 * q, top1=60.0 + q) for q in (1, 5, 13)))
    assert main(["figure", str(source), "--output", str(tmp_path / "out" / "scenes")]) == 0
    made = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert made == ["scenes.bd.csv", "scenes.csv", "scenes.png", "scenes.svg", "scenes.txt"]
    caption = (tmp_path / "out" / "scenes.txt").read_text()
    assert "JPEG: chroma 4:2:0" in caption and "BD-rate (%)" in caption


def test_a_figure_whose_costs_are_known_comes_with_their_tables(tmp_path):
    source = write(tmp_path, record(edge_seconds=0.02, cloud_seconds=0.01), record(factor=1, bpp=0.2, top1=72.0))
    assert main(["figure", str(source), "--output", str(tmp_path / "out" / "scenes")]) == 0
    cost, links = ((tmp_path / "out" / f"scenes.{kind}.csv").read_text().splitlines() for kind in ("cost", "links"))
    assert len(cost) == len(links) == 3 and "edge MMACs" in cost[0] and "100 Mbit/s" in links[0]
    assert any(",20.0,10.0," in line for line in links)


def test_paper_command_draws_four_figures(tmp_path):
    assert main(["paper", "--output", str(tmp_path)]) == 0
    assert len(list(tmp_path.glob("*.png"))) == len(list(tmp_path.glob("*.svg"))) == 4


def test_run_command_measures_points_and_rivals_then_draws(tmp_path, monkeypatch, capsys):
    commands = []

    def fake(results):
        def main(*argv):
            commands.append(argv)
            output = Path(argv[-1][argv[-1].index("--output") + 1])
            output.parent.mkdir(parents=True, exist_ok=True)
            write(output.parent, *results, name=f"{output.stem}.json")
            return 0
        return main

    def points(task, argv):
        folder = Path(argv[argv.index("--output") + 1])
        folder.mkdir(parents=True)
        for factor in (*range(6), 99):
            write(folder, record(factor=factor, bpp=0.1 + factor, top1=70.0 + factor / 10), name=f"S1_{factor}.json")
        commands.append((task, argv))
        return 0

    monkeypatch.setattr(measure.val, "main", points)
    monkeypatch.setattr(measure.rival_command, "main", fake([rival()]))
    monkeypatch.setattr(measure.learned, "main", fake([rival(codec="Variational")]))
    costs = [{"task": "classification", "benchmark": "scenes", "split_point": "S1", "compress_factor": 0}]
    monkeypatch.setattr(measure, "point_costs", lambda *arguments: costs)
    argv = ["run", "--task", "classification", "--limit", "1000", "--split_point", "S1", "--runs", str(tmp_path / "r")]
    assert main([*argv, "--output", str(tmp_path / "f")]) == 0
    told = (tmp_path / "f.csv").read_text()
    assert (tmp_path / "f.png").exists() and "S1" in told and "JPEG" in told and "Variational" in told
    assert told.count("\n") == 1 + 6 + 2, "a point that dict.yaml no longer lists is left out"
    assert commands[0][0] == "classification" and all("--limit" in command[-1] for command in commands)


def test_costs_are_measured_again_when_the_points_are_others(tmp_path, monkeypatch):
    measured = []
    monkeypatch.setattr(measure, "point_costs", lambda benchmark, network, dataset, points, settings: measured.append(
        [{"split_point": p.split_point, "compress_factor": p.compress_factor} for p in points]) or measured[-1])
    benchmark = find("classification", "scenes")
    args = Namespace(gpu=False, valdir=None, limit=2, backbone_weights=None, coder="rans")
    points = select(load_points(), "classification", "scenes", ["S1"], ["all"])
    for chosen in (points, points, points[:2]):
        measure._measure_costs(benchmark, chosen, args, tmp_path / "costs.json")
    assert [len(rows) for rows in measured] == [6, 2]


def test_values_that_bypass_the_coder_are_told_and_travel(tmp_path):
    comparison = read([write(tmp_path, record(uncoded_values_per_image=1000, bytes_per_image=10.0), rival())])
    assert any("S1: up to 1,000 values per image reach the cloud uncoded" in note for note in comparison.notes)
    assert [row["bytes"] for row in tables.time_to_answer(comparison) if row["curve"] == "S1"] == [str(15 + 4000)]


def test_run_command_ends_with_the_code_of_a_failing_step(tmp_path, monkeypatch):
    monkeypatch.setattr(measure.val, "main", lambda *argv: 2)
    with pytest.raises(SystemExit) as ended:
        main(["run", "--task", "segmentation", "--runs", str(tmp_path), "--output", str(tmp_path / "f")])
    assert ended.value.code == 2


@pytest.mark.parametrize("options, told", [(["--codecs", "jpeg", "gif"], "unknown codec 'gif'"),
                                           (["--features", "S1", "S9"], "S9")])
def test_run_command_refuses_unknown_names_before_it_measures(tmp_path, monkeypatch, capsys, options, told):
    monkeypatch.setattr(measure.val, "main", lambda *argv: pytest.fail("measured first"))
    argv = ["run", "--task", "classification", "--runs", str(tmp_path / "r"), "--output", str(tmp_path / "f")]
    assert main([*argv, *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line


@pytest.mark.parametrize("verb", ["bd", "links", "cost"])
def test_table_commands_print_and_write(tmp_path, capsys, verb):
    source = write(tmp_path, record(), record(factor=1, bpp=0.2, top1=72.0), rival())
    assert main([verb, str(source), "--output", str(tmp_path / "table.csv")]) == 0
    assert "JPEG" in capsys.readouterr().out
    assert len((tmp_path / "table.csv").read_text().splitlines()) > 1


def test_bad_input_is_one_line_and_exit_code_2(tmp_path, capsys):
    source = write(tmp_path, record())
    for argv in (["bd", str(tmp_path / "absent.json")], ["bd", str(source), "--anchor", "HEVC"]):
        assert main(argv) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
