"""spic cache: what is kept between runs is listed and cleared, by kind and by age."""

import json
import os
import time

import pytest

from spic import cache
from spic.errors import SpicError

FILES = {"features/abc/features.bin": 3000, "features/abc/complete.json": 10, "features/def/features.bin": 500,
         "passes/123": 40, "scenes-v2-seed0-classification-val-9/val/a.jpg": 70, "coco/list.json": 5, "rivals/x.json": 6}
OTHERS = {"catalogue.lock": 0, "features/.lock": 0, "scenes-v2-seed0-classification-val-9.lock": 0, "mine.txt": 3}


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch):
    monkeypatch.setenv("SPIC_CACHE", str(tmp_path))
    for name, size in (FILES | OTHERS).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * size)
    long_ago = time.time() - 40 * cache.DAY
    for name in ("features/def", "passes/123"):
        os.utime(tmp_path / name, (long_ago, long_ago))
    return tmp_path


def there(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_every_kind_is_listed_with_its_size_and_the_limit(capsys, monkeypatch):
    assert cache.main([]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[:2] for line in lines if line and line[0] in cache.KINDS and line[1].isdigit()] == [
        ["features", "2"], ["passes", "1"], ["scenes", "1"], ["coco", "1"], ["rivals", "1"]]
    monkeypatch.setenv("SPIC_CACHE_GB", "7")
    cache.main(["list"])
    assert "features take at most 7 GB" in capsys.readouterr().out


def test_programs_get_every_entry(capsys):
    assert cache.main(["list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {entry["kind"] for entry in found} == set(cache.KINDS)
    assert sorted(entry["bytes"] for entry in found if entry["kind"] == "features") == [500, 3010]


@pytest.mark.parametrize("words, gone", [
    (["clear"], set(FILES)),
    (["clear", "features", "coco"], {name for name in FILES if name.startswith(("features", "coco"))}),
    (["clear", "--older-than", "30"], {"features/def/features.bin", "passes/123"}),
    (["clear", "features", "--older-than", "30"], {"features/def/features.bin"}),
    (["clear", "scenes", "--older-than", "1"], set()),
])
def test_kinds_and_ages_are_cleared_and_nothing_else(kept, words, gone, capsys):
    assert cache.main(words) == 0
    assert there(kept) == set(FILES | OTHERS) - gone
    assert capsys.readouterr().out.startswith(f"removed {len({'/'.join(name.split('/')[:2 if '/' in name else 1]) for name in gone})} of")


@pytest.mark.parametrize("words, message", [(["clear", "all"], "unknown kind 'all'; choose from features"),
                                            (["clear", "--older-than", "soon"], "'soon' is not a number of days"),
                                            (["clear", "--older"], "--older"), (["empty"], "invalid choice")])
def test_bad_input_is_one_line_and_removes_nothing(kept, words, message, capsys):
    try:
        code = cache.main(words)
    except SystemExit as stop:
        code = stop.code
    line, = capsys.readouterr().err.strip().splitlines()
    assert code == 2 and message in line and there(kept) == set(FILES | OTHERS)


def test_a_limit_that_is_no_number_is_refused(monkeypatch):
    monkeypatch.setenv("SPIC_CACHE_GB", "much")
    with pytest.raises(SpicError, match="SPIC_CACHE_GB=much: must be a number of gigabytes above 0"):
        cache.FEATURES.make_room(1)


def test_a_link_is_removed_and_not_what_it_leads_to(kept, tmp_path_factory):
    far = tmp_path_factory.mktemp("far")
    (far / "precious").write_text("!")
    (kept / "features" / "link").symlink_to(far)
    cache.clear(["features"])
    assert (far / "precious").exists() and not (kept / "features" / "link").exists()
