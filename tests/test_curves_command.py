"""spic curves: its verbs, and bad input."""

import dataclasses

import pytest

from curve_cases import record, rival, write
from spic.benchmarks import find
from spic.curves import run
from spic.curves.command import main
from spic.record import Costs, read_results, write_record
from spic.points import load_points, select


def test_figure_command_writes_all_five_files(tmp_path, capsys):
    source = write(tmp_path, *(record(factor=i, bpp=0.1 * 2**i, top1=70.0 + i) for i in range(3)),
                   *(rival(quality=q, bpp=0.5 * q, top1=60.0 + q) for q in (1, 5, 13)))
    assert main(["figure", str(source), "--output", str(tmp_path / "out" / "scenes")]) == 0
    made = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert made == ["scenes.bd.csv", "scenes.csv", "scenes.png", "scenes.ratios.csv", "scenes.svg", "scenes.txt"]
    caption = (tmp_path / "out" / "scenes.txt").read_text()
    assert "JPEG: chroma 4:2:0" in caption and "BD-rate (%)" in caption


def test_a_figure_whose_costs_are_known_comes_with_their_tables(tmp_path):
    source = write(tmp_path, record(costs=Costs(edge_seconds=0.02, cloud_seconds=0.01)), record(factor=1, bpp=0.2, top1=72.0))
    assert main(["figure", str(source), "--output", str(tmp_path / "out" / "scenes")]) == 0
    cost, links = ((tmp_path / "out" / f"scenes.{kind}.csv").read_text().splitlines() for kind in ("cost", "links"))
    assert len(cost) == len(links) == 3 and "edge MMACs" in cost[0] and "100 Mbit/s" in links[0]
    assert any(",20.0,10.0," in line for line in links)


def test_a_folder_called_x_json_makes_a_figure(tmp_path):
    """What val.py --output x.json once left behind for several points."""
    for factor in range(2):
        write_record(tmp_path / "runs" / "x.json" / f"S1_{factor}.json", record(factor=factor, bpp=0.1 + factor))
    for number, source in enumerate((tmp_path / "runs", tmp_path / "runs" / "x.json")):
        assert main(["figure", str(source), "--output", str(tmp_path / f"figure{number}")]) == 0
        assert (tmp_path / f"figure{number}.csv").read_text().count("\n") == 3


def test_a_figure_may_be_named_with_an_ending(tmp_path):
    source = write(tmp_path, record())
    assert main(["figure", str(source), "--output", str(tmp_path / "mine.png")]) == 0
    assert (tmp_path / "mine.png").exists() and not (tmp_path / "mine.png.png").exists()


def test_paper_command_draws_four_figures(tmp_path):
    assert main(["paper", "--output", str(tmp_path)]) == 0
    assert len(list(tmp_path.glob("*.png"))) == len(list(tmp_path.glob("*.svg"))) == 4


def test_redraw_command_draws_from_the_csv_and_leaves_the_texts(tmp_path):
    source = write(tmp_path, record(), record(factor=1, bpp=0.2, top1=72.0))
    assert main(["figure", str(source), "--output", str(tmp_path / "f"), "--title", "old"]) == 0
    before = (tmp_path / "f.txt").read_bytes()
    (tmp_path / "f.png").unlink()
    assert main(["redraw", str(tmp_path / "f.csv"), "--title", "new"]) == 0
    assert (tmp_path / "f.png").exists() and (tmp_path / "f.txt").read_bytes() == before
    assert ">new<" in (tmp_path / "f.svg").read_text()


@pytest.fixture
def steps(monkeypatch):
    """The functions that measure, replaced; what they were called with."""
    calls = []

    def measure_points(points, **options):
        calls.append((points[0].task, {**options, "table": points[0].table.name}))
        return [record(p.split_point, p.compress_factor, bpp=0.1 + p.compress_factor, top1=70.0 + p.compress_factor / 10)
                for p in points]

    def step(codec):
        def measure(benchmark, *, codecs=None, features=None, **options):
            calls.append((benchmark.name, options))
            found = rival(codec)
            return [dataclasses.replace(found, split_point=features)], {"avif": "not here"}
        return measure

    monkeypatch.setattr(run.val, "measure_points", measure_points)
    monkeypatch.setattr(run.rivals, "measure_rivals", step("jpeg"))
    monkeypatch.setattr(run.learned, "measure_learned", step("Variational"))
    monkeypatch.setattr(run.answer, "measure_answers", step("label"))
    monkeypatch.setattr(run, "costs_of_points", lambda benchmark, network, points, *rest: calls.append(("costs", {})) or
                        [Costs(edge_seconds=0.01 * (1 + p.compress_factor)) for p in points])
    return calls


def test_run_command_measures_points_and_rivals_then_draws(tmp_path, steps):
    argv = ["run", "--task", "classification", "--limit", "1000", "--split_point", "S1", "--runs", str(tmp_path / "r"),
            "--features", "S1", "--tables", "context"]
    assert main([*argv, "--output", str(tmp_path / "f")]) == 0
    assert steps[0][1]["table"] == "classification_0.context.json"
    points = (tmp_path / "f.csv").read_text()
    assert (tmp_path / "f.png").exists() and points.count("\n") == 1 + 6 + 4
    assert all(f",{name}," in points for name in ("S1", "JPEG", "S1 JPEG", "Variational", "Label"))
    assert "avif is missing: not here" in (tmp_path / "f.txt").read_text()
    assert "60.0" in (tmp_path / "f.links.csv").read_text(), "costs belong to their points"
    assert [name for name, _ in steps] == ["classification", "costs", "scenes", "scenes", "scenes", "scenes"]
    assert all(options["limit"] == 1000 for name, options in steps if name != "costs")
    assert sorted(p.name for p in (tmp_path / "r").iterdir()) == ["answers.json", "costs.json", "features-S1.json", "learned.json", "rivals.json"]


def test_costs_are_measured_again_when_the_points_or_their_results_are_others(tmp_path, steps):
    benchmark = find("classification", "scenes")
    points = select(load_points(), "classification", "scenes", ["S1"], ["all"])
    records = [record(p.split_point, p.compress_factor) for p in points]
    for chosen in (records, records, records[:2], [dataclasses.replace(r, inputs={"table": "other"}) for r in records[:2]]):
        found = run.add_costs(benchmark, points[:len(chosen)], chosen, run.Pictures(limit=2), "rans", tmp_path / "costs.json")
        assert [r.costs.edge_seconds for r in found] == [0.01 * (1 + i) for i in range(len(chosen))]
    assert len(steps) == 3
    assert len(read_results([tmp_path / "costs.json"]).records) == 2


@pytest.mark.parametrize("options, words", [(["--codecs", "jpeg", "gif"], "unknown codec 'gif'"),
                                            (["--features", "S1", "S9"], "S9"), (["--benchmark", ""], "unknown benchmark ''")])
def test_run_command_refuses_unknown_names_before_it_measures(tmp_path, monkeypatch, capsys, options, words):
    monkeypatch.setattr(run.val, "measure_points", lambda *argv, **more: pytest.fail("measured first"))
    argv = ["run", "--task", "classification", "--runs", str(tmp_path / "r"), "--output", str(tmp_path / "f")]
    assert main([*argv, *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


@pytest.mark.parametrize("verb", ["bd", "links", "cost", "ratios"])
def test_table_commands_print_and_write(tmp_path, capsys, verb):
    source = write(tmp_path, record(), record(factor=1, bpp=0.2, top1=72.0), rival())
    assert main([verb, str(source), "--output", str(tmp_path / "table.csv")]) == 0
    assert "JPEG" in capsys.readouterr().out
    assert len((tmp_path / "table.csv").read_text().splitlines()) > 1


def test_bad_input_is_one_line_and_exit_code_2(tmp_path, capsys):
    source = write(tmp_path, record())
    (tmp_path / "taken.csv").mkdir()
    for argv in (["bd", str(tmp_path / "absent.json")], ["bd", str(source), "--anchor", "HEVC"],
                 ["figure", str(source), "--output", "/"], ["figure", str(source), "--output", str(tmp_path / "taken")],
                 ["links", str(source), "--output", str(tmp_path / "taken.csv")], ["redraw", str(tmp_path / "absent.csv")]):
        assert main(argv) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_an_abbreviated_option_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["bd", str(write(tmp_path, record())), "--anch", "S1"])
