"""Records: what is written is read back, and anything else is a SpicError."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curve_cases import record, rival
from spic.errors import SpicError
from spic.record import CHECKS, COST_CHECKS, Costs, Record, Results, read_results, write_record

JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
                    max_leaves=8)


def read_text(folder, text):
    path = folder / "r.json"
    path.write_text(text)
    return read_results([path])


def test_a_record_comes_back_as_it_was_written(tmp_path):
    made = [record(costs=Costs(edge_parameters=5, edge_seconds=0.25)), rival(), record(top1=math.nan)]
    for number, one in enumerate(made):
        write_record(tmp_path / f"{number}.json", one)
    read = read_results([tmp_path])
    assert repr(read.records) == repr(tuple(made))
    assert [source.rsplit("/")[-1] for source in read.sources] == ["0.json", "1.json", "2.json"]


def test_several_records_and_what_is_missing_share_a_file(tmp_path):
    Results((record(), rival()), {"avif": "not built"}).write(tmp_path / "all.json")
    read = read_results([tmp_path / "all.json"])
    assert len(read.records) == 2 and read.missing == {"avif": "not built"}


def test_costs_that_were_not_measured_are_not_written():
    assert record(costs=Costs(edge_macs=7)).to_json()["costs"] == {"edge_macs": 7}


def test_every_field_has_a_check():
    assert set(CHECKS) == set(Record.__dataclass_fields__) and set(COST_CHECKS) == set(Costs.__dataclass_fields__)


def test_a_folder_called_like_a_file_is_searched_not_read(tmp_path):
    write_record(tmp_path / "x.json" / "S1_0.json", record())
    assert len(read_results([tmp_path]).records) == len(read_results([tmp_path / "x.json"]).records) == 1


@pytest.mark.parametrize("old", ['{"reports": []}', '{"task": "classification", "bpp": 0.1, "top1": 70.0}'])
def test_results_of_an_earlier_version_are_refused_not_passed_over(tmp_path, old):
    (tmp_path / "old.json").write_text(old)
    for where in (tmp_path, tmp_path / "old.json"):
        with pytest.raises(SpicError, match="old.json.*measure again"):
            read_results([where])


@pytest.mark.parametrize("text", ["[" * 100_000, '{"records": ' * 50_000, "", "{", "\x00", '{"records": 5}', '[3]', "null",
                                  '{"records": [], "missing": [1]}', '{"task": [], "bpp": 1}', '{"task": {"a": 1}}'])
def test_garbage_is_one_line(tmp_path, text):
    with pytest.raises(SpicError) as error:
        read_text(tmp_path, text)
    assert "\n" not in str(error.value) and len(str(error.value)) < 600


@pytest.mark.parametrize("field", sorted(CHECKS))
@given(value=JSON)
@settings(max_examples=40, deadline=None)
def test_any_value_of_any_field_is_a_record_or_a_spic_error(field, value):
    content = json.loads(json.dumps(record(costs=Costs(edge_macs=1)).to_json() | {field: value}))
    try:
        read = Record.from_json(content, "here")
    except SpicError as error:
        assert str(error).startswith("here") and "\n" not in str(error)
    else:
        assert isinstance(read.accuracy, (int, float)) and read.bpp >= 0 and read.images > 0
        assert repr(Record.from_json(read.to_json(), "again")) == repr(read)


@given(value=JSON)
@settings(max_examples=200, deadline=None)
def test_any_json_is_records_or_a_spic_error(tmp_path_factory, value):
    try:
        read_text(tmp_path_factory.getbasetemp(), json.dumps(value))
    except SpicError:
        return
    assert value == [] or isinstance(value, dict) and value["records"] == []


@pytest.mark.parametrize("field, value", [("bpp", math.nan), ("bpp", -1.0), ("bpp", True), ("images", 0), ("images", 2.5),
                                          ("scores", {"top1": "70"}), ("baseline", []), ("bpp_wire", math.inf),
                                          ("bytes_per_image", None), ("amp", 1), ("costs", {"edge_macs": -1}),
                                          ("costs", {"edge_price": 1}), ("scores", {"miou": 0.5})])
def test_a_wrong_value_is_named(field, value):
    with pytest.raises(SpicError, match=f"here: .*{field}"):
        Record.from_json(record().to_json() | {field: value}, "here")
