"""bench/held_out.py: choices are made on training pictures that nothing was trained on."""

import pytest


@pytest.fixture
def data(tmp_path):
    for name, count in (("ant", 7), ("bee", 5)):
        for part in ("train", "val"):
            (tmp_path / "all" / part / name).mkdir(parents=True)
        for k in range(count):
            (tmp_path / "all/train" / name / f"{k}.png").write_text(f"{name} {k}")
    return tmp_path / "all"


def test_each_training_picture_is_in_one_of_the_two_parts(bench, data, tmp_path):
    assert bench("held_out").held_out(data, tmp_path / "two", every=3) == {"train": 7, "val": 5}
    found = {part: {path.read_text() for path in (tmp_path / "two" / part).glob("*/*")} for part in ("train", "val")}
    assert found["val"] == {"ant 0", "ant 3", "ant 6", "bee 0", "bee 3"} and len(found["train"]) == 7
    assert not found["train"] & found["val"]


@pytest.mark.parametrize("target, every, word", [("all", "2", "is there already"), ("two", "1", "choose 2 or more"), ("two", "0", "--every")])
def test_what_cannot_be_made_is_one_clear_line(bench, data, tmp_path, capfd, target, every, word):
    try:
        assert bench("held_out").main([str(data), str(tmp_path / target), "--every", every]) == 2
    except SystemExit as exit:  # of the parser
        assert exit.code == 2
    assert word in capfd.readouterr().err and not (tmp_path / "two").exists()
