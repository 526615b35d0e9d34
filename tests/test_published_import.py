"""The import of published weights and tables, from every kind of source, whole, partial, altered or hostile."""

import gzip
import hashlib
import io
import json
import resource
import shutil
import tarfile
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from spic.bottleneck import PUBLISHED_PIXELS, make_bottleneck
from spic.coding.tables import FrequencyTable
from spic.errors import SpicError
from spic.files import record_checksums, verify_file
from spic.points import load_points
from spic.published import layout, source
from spic.published.command import main
from spic.published.audit import audit_imported
from spic.published.checkpoints import load_checkpoint, read_checkpoint
from spic.published.importing import import_published
from spic.published.unpickle import read_table, table_content
from tests.test_published_checkpoints import checkpoint_bytes
from tests.test_published_unpickle import published_pickle

SHARED = Path(__file__).parents[1].parent / "shared" / "paper" / "published"
DICT = """segmentation:
  coco:
    S1:
      4: {step: 3, stride: 8, channels: 2,
          weights: Weights/coco/S1/segmentation_4.safetensors, table: Freq_tab/coco/S1/segmentation_4.json}
    US1:
      0: {step: 1, stride: 6, channels: 24,
          weights: Weights/coco/US1/segmentation_0.safetensors, table: Freq_tab/coco/US1/segmentation_0.json}
"""
ALL = {"Segmentation/weights/supervised/S1/model5.pth.tar", "Segmentation/freq_tab/supervised/S1/freq5.pickle",
       "Segmentation/weights/unsupervised/S1/model1.pth.tar", "Segmentation/freq_tab/unsupervised/S1/freq1.pickle"}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A dict.yaml with two published points, and a manifest of the made-up files in ``copy``, a published layout."""
    root, copy = tmp_path / "project", tmp_path / "copy"
    root.mkdir()
    (root / "dict.yaml").write_text(DICT)
    manifest = {}
    for point in load_points(root / "dict.yaml").values():
        table = published_pickle({point.step * symbol: 1000 >> symbol for symbol in range(5)})
        for kind, data in (("weights", checkpoint_bytes(point)), ("table", table)):
            name = layout.Artefact(point, kind).name
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes(data)
            content = table_content(read_table(data, point.step)) if kind == "table" else \
                read_checkpoint(data, point, name).content
            manifest[name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "content": content}
    monkeypatch.setattr(layout, "_manifest", lambda: manifest)
    return root / "dict.yaml", copy


def archive(copy: Path, kind: str) -> Path:
    return Path(shutil.make_archive(str(copy.parent / "archive"), kind, copy.parent, "copy"))


def imported(dict_file: Path) -> dict[str, bytes]:
    files = (path for path in sorted(dict_file.parent.rglob("*")) if path.is_file())
    return {str(path.relative_to(dict_file.parent)): path.read_bytes() for path in files}


def test_published_names_follow_the_published_layout(project):
    assert {a.name for a in layout.artefacts(layout.published_points(project[0]))} == ALL


def test_every_published_point_has_its_files_in_the_manifest():
    known = layout.artefacts(layout.published_points())
    assert len(known) == 122 and {a.name for a in known} == set(json.loads(layout.MANIFEST_FILE.read_text()))


def test_a_folder_is_imported_as_weights_and_tables_the_project_can_read(project):
    dict_file, copy = project
    summary = import_published(str(copy), dict_file)
    assert summary.ok and summary.complete == 2 and summary.written == 4
    for point in load_points(dict_file).values():
        unit = make_bottleneck((256, 65, 65), point.channels, point.stride, PUBLISHED_PIXELS)
        unit.load_state_dict(load_file(point.weights))
        assert FrequencyTable.load(point.table).counts == {symbol: 1000 >> symbol for symbol in range(5)}
        checkpoint = load_checkpoint(point.weights)
        assert checkpoint.origin.estimator_shrink == 0.25 and checkpoint.origin.device == "cpu"


@pytest.mark.parametrize("kind", ["zip", "tar", "gztar"])
def test_an_archive_gives_the_same_files_as_a_folder(project, kind):
    dict_file, copy = project
    import_published(str(archive(copy, kind)), dict_file)
    from_archive = imported(dict_file)
    for folder in ("Weights", "Freq_tab"):
        shutil.rmtree(dict_file.parent / folder)
    import_published(str(copy.parent), dict_file)  # the layout in a folder of the source
    assert imported(dict_file) == from_archive and len(from_archive) == 6


def test_an_archive_is_read_from_a_url(project):
    dict_file, copy = project
    archive(copy, "zip")
    handler = partial(SimpleHTTPRequestHandler, directory=copy.parent)
    handler.log_message = lambda *_: None
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        assert import_published(f"{address}/archive.zip", dict_file).complete == 2
        with pytest.raises(SpicError, match="could not be downloaded .*404"):
            list(source.read_files(f"{address}/absent.zip", {"a": 1}))
        with pytest.raises(SpicError, match="not a .zip, .tar or .tar.gz archive"):
            list(source.read_files(f"{address}/project/dict.yaml", {"a": 1}))
        server.shutdown()


def test_a_second_run_changes_nothing_and_says_so(project):
    dict_file, copy = project
    import_published(str(copy), dict_file)
    before = imported(dict_file)
    times = {path: path.stat().st_mtime_ns for path in dict_file.parent.rglob("*")}
    summary = import_published(str(copy), dict_file)
    assert "nothing changed, 4 were already in place" in str(summary) and summary.complete == 2
    assert imported(dict_file) == before
    assert {path: path.stat().st_mtime_ns for path in dict_file.parent.rglob("*")} == times


def test_a_part_of_the_files_imported_twice_is_still_that_part(project):
    """It was told to hold none of the published files, because those it holds were in place."""
    dict_file, copy = project
    first = next(iter(load_points(dict_file).values()))
    for kind in ("weights", "table"):
        (copy / layout.Artefact(first, kind).name).unlink()
    once, again = (import_published(str(copy), dict_file) for _ in range(2))
    assert (once.written, again.written, again.present) == (2, 0, 2) and again.missing == once.missing and len(again.missing) == 2


def test_an_interrupted_import_goes_on_where_it_stopped(project, monkeypatch):
    dict_file, copy = project
    real = source.read_files

    def stop_after_two(*arguments):
        for i, file in enumerate(real(*arguments)):
            if i == 2:
                raise KeyboardInterrupt
            yield file

    with monkeypatch.context() as patch:
        patch.setattr("spic.published.importing.read_files", stop_after_two)
        assert main(["--source", str(copy), "--dict", str(dict_file)]) == 130
    summary = import_published(str(copy), dict_file)
    assert (summary.present, summary.written, summary.complete) == (2, 2, 2)


def test_a_partial_copy_imports_what_is_there_and_lists_what_is_missing(project, capsys):
    dict_file, copy = project
    name = "Segmentation/weights/unsupervised/S1/model1.pth.tar"
    (copy / name).unlink()
    assert main(["--source", str(copy), "--dict", str(dict_file)]) == 0
    out = capsys.readouterr().out
    assert f"missing: {name}" in out and "1 of 2 points imported, 1 files missing, 0 refused; 3 files written" in out


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data + b"\0",
                                    lambda data: bytes([data[0] ^ 1]) + data[1:]], ids=["short", "long", "altered"])
def test_an_altered_file_is_refused_and_not_written(project, damage, capsys):
    dict_file, copy = project
    name = "Segmentation/weights/supervised/S1/model5.pth.tar"
    (copy / name).write_bytes(damage((copy / name).read_bytes()))
    assert main(["--source", str(copy), "--dict", str(dict_file)]) == 2
    captured = capsys.readouterr()
    assert f"refused: {name}: not the published file" in captured.out and "1 of 2 points" in captured.out
    assert captured.err.splitlines()[-1].startswith("error: 1 files were refused")
    assert not (dict_file.parent / "Weights/coco/S1/segmentation_4.safetensors").exists()


def test_an_imported_file_altered_later_is_imported_again(project):
    dict_file, copy = project
    import_published(str(copy), dict_file)
    before = imported(dict_file)
    (dict_file.parent / "Freq_tab/coco/S1/segmentation_4.json").write_text("{}")
    assert import_published(str(copy), dict_file).written == 1
    assert imported(dict_file) == before


def test_a_place_that_cannot_be_written_is_one_line(project, capsys):
    dict_file, copy = project
    (dict_file.parent / "Freq_tab").write_text("a file where a folder should be")
    assert main(["--source", str(copy), "--dict", str(dict_file)]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "Freq_tab" in line and "run the command again: it goes on where it stopped" in line


def test_an_archive_cannot_write_anywhere_else(project):
    dict_file, copy = project
    hostile = copy.parent / "hostile.zip"
    with zipfile.ZipFile(hostile, "w") as file:
        for name in sorted(ALL):
            file.writestr(f"../{name}", (copy / name).read_bytes())
            file.writestr(f"../../escaped/{name}", b"no")
        file.writestr("/etc/absolute", b"no")
    everything = {p for p in copy.parent.rglob("*")}
    assert import_published(str(hostile), dict_file).complete == 2  # read by name, never unpacked
    new = {p for p in copy.parent.rglob("*")} - everything
    assert {p.relative_to(dict_file.parent).parts[0] for p in new} == {"Weights", "Freq_tab"}


def test_links_in_a_tar_are_not_followed(project):
    dict_file, copy = project
    hostile = copy.parent / "hostile.tar"
    with tarfile.open(hostile, "w") as file:
        for name in sorted(ALL):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, str(copy / name)
            file.addfile(member)
    with pytest.raises(SpicError, match="holds none of the published files"):
        import_published(str(hostile), dict_file)


def test_a_decompression_bomb_is_stopped(project, monkeypatch):
    dict_file, copy = project
    bomb = copy.parent / "bomb.tar.gz"
    with gzip.open(bomb, "wb") as stream, tarfile.open(fileobj=stream, mode="w") as file:
        member = tarfile.TarInfo("copy/zeros")
        member.size = 1 << 22
        file.addfile(member, io.BytesIO(bytes(member.size)))
    monkeypatch.setattr(source, "MAX_ARCHIVE_BYTES", 1 << 20)
    with pytest.raises(SpicError, match="more than 1 MiB"):
        import_published(str(bomb), dict_file)


def test_a_member_is_read_no_further_than_its_published_size(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("top/wanted", bytes(1 << 20))
    (name, data), = source.read_files(str(tmp_path / "a.zip"), {"wanted": 10})
    assert (name, len(data)) == ("wanted", 11)


@pytest.mark.parametrize("cut", [1000, 20000])
@pytest.mark.parametrize("kind", ["zip", "gztar"])
def test_a_truncated_archive_is_one_line(project, kind, cut):
    dict_file, copy = project
    path = archive(copy, kind)
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(SpicError, match="damaged archive|not a .zip"):
        import_published(str(path), dict_file)


@pytest.mark.parametrize("where, message", [
    ("{tmp}/absent", "no such folder or archive"),
    ("{tmp}/empty", "holds none of the published files"),
    ("{tmp}/text", "not a .zip, .tar or .tar.gz archive"),
    ("ftp://127.0.0.1/archive.zip", "only http:// and https://"),
    ("file:///etc/passwd", "only http:// and https://"),
    ("http://127.0.0.1:1/archive.zip", "could not be downloaded"),
])
def test_a_useless_source_is_one_line_and_exit_code_2(project, tmp_path, capsys, where, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("hello")
    assert main(["--source", where.format(tmp=tmp_path), "--dict", str(project[0])]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_without_source_or_audit_the_command_says_what_to_give(capsys):
    assert main([]) == 2
    assert "--source DIR_OR_URL" in capsys.readouterr().err


def test_the_audit_without_an_import_says_how_to_import(project, capsys):
    assert main(["--audit", "--dict", str(project[0])]) == 2
    told = capsys.readouterr().err
    assert "spic import --source https://github.com/IntelLabs/spic" in told
    assert "spic import --audit --source DIR_OR_URL" in told


def test_a_point_that_was_never_published_needs_another_benchmark(project):
    project[0].write_text(DICT.replace("      4:", "      9:"))
    with pytest.raises(SpicError, match="segmentation/coco/S1/9 is not a published point"):
        import_published(str(project[1]), project[0])


def test_imported_points_can_be_audited(project):
    dict_file, copy = project
    import_published(str(copy), dict_file)
    audits = audit_imported(dict_file)
    assert [audit.rates.shape for audit in audits] == [(2, 8, 8), (24, 11, 11)]


# ---- what was published is recognised by the manifest, whatever was recorded since ----


def recounted(dict_file: Path) -> Path:
    """What `recount --force` did: another table in the place of a published one, with its checksum."""
    table = dict_file.parent / "Freq_tab/coco/S1/segmentation_4.json"
    FrequencyTable({0: 40, 1: 2}, 3.0).save(table)
    record_checksums("coco", [table], dict_file.parent)
    return table


def test_a_recounted_table_is_not_taken_for_the_published_one(project):
    dict_file, copy = project
    import_published(str(copy), dict_file)
    before = imported(dict_file)
    recounted(dict_file)
    summary = import_published(str(copy), dict_file)
    assert (summary.written, summary.present, summary.complete) == (1, 3, 2)
    assert imported(dict_file) == before


def test_the_audit_leaves_a_recounted_table_out_and_says_so(project, capsys):
    dict_file, copy = project
    import_published(str(copy), dict_file)
    table = recounted(dict_file)
    assert [audit.point.split_point for audit in audit_imported(dict_file)] == ["US1"]
    assert f"note: {table} is not the published file" in capsys.readouterr().err


def test_other_weights_in_the_place_of_published_ones_are_replaced(project):
    dict_file, copy = project
    import_published(str(copy), dict_file)
    before, (first, *_) = imported(dict_file), load_points(dict_file).values()
    save_file({name: value + 1 for name, value in load_file(first.weights).items()}, first.weights)
    record_checksums("coco", [first.weights], dict_file.parent)
    assert import_published(str(copy), dict_file).written == 1
    assert imported(dict_file) == before


def test_the_table_of_another_kind_is_not_taken_for_the_shared_one():
    """Its counts add up to the same."""
    shared, channel = FrequencyTable({0: 5, 1: 2}, 1.0), FrequencyTable([{0: 3, 1: 1}, {0: 2, 1: 1}], 1.0, [[[0]], [[1]]])
    assert channel.counts == shared.counts and table_content(channel) != table_content(shared)


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"{SHARED} is absent")
def test_the_manifest_knows_the_conversion_of_every_published_file_at_hand():
    known = layout.artefacts(layout.published_points())
    found = 0
    for artefact in known:
        if (SHARED / artefact.name).exists():
            data = artefact.check((SHARED / artefact.name).read_bytes())
            content = table_content(read_table(data, artefact.point.step)) if artefact.kind == "table" else \
                read_checkpoint(data, artefact.point, artefact.name).content
            assert content == artefact.content, artefact.name
            found += 1
    assert found == 74


# ---- where an import is written ----


@pytest.mark.parametrize("content", ["[]", "null", "5", "{", "\xff"])
def test_a_damaged_list_of_checksums_is_one_line(project, content, capsys):
    dict_file, copy = project
    import_published(str(copy), dict_file)
    before, listed = imported(dict_file), dict_file.parent / "Weights/coco/checksums.json"
    listed.write_bytes(content.encode("latin-1"))
    capsys.readouterr()
    assert main(["--source", str(copy), "--dict", str(dict_file)]) == 2
    line, = capsys.readouterr().err.strip().splitlines()
    assert "checksums.json: missing or not a list of checksums" in line and "delete it" in line
    listed.unlink()
    assert import_published(str(copy), dict_file).written == 0, "the files are still there and say what they should"
    assert imported(dict_file) == before


@pytest.mark.parametrize("content", [{"Freq_tab/coco/S1/segmentation_4.json": 5}, {"Freq_tab/coco/S1/segmentation_4.json": []}])
def test_an_odd_checksum_is_recorded_again(project, content):
    dict_file, copy = project
    import_published(str(copy), dict_file)
    before = imported(dict_file)
    (dict_file.parent / "Weights/coco/checksums.json").write_text(json.dumps(content))
    assert import_published(str(copy), dict_file).written == 0
    assert imported(dict_file) == before


def test_folders_of_weights_and_tables_may_be_links(project):
    dict_file, copy = project
    for folder in ("Weights", "Freq_tab"):
        (dict_file.parent.parent / "elsewhere" / folder).mkdir(parents=True)
        (dict_file.parent / folder).symlink_to(dict_file.parent.parent / "elsewhere" / folder)
    assert import_published(str(copy), dict_file).complete == 2
    for point in load_points(dict_file).values():
        assert verify_file(point.weights, "coco", "", dict_file.parent) == point.weights
    assert import_published(str(copy), dict_file).written == 0 and len(audit_imported(dict_file)) == 2


def test_a_link_to_nowhere_is_one_line(project, capsys):
    dict_file, copy = project
    (dict_file.parent / "Freq_tab").symlink_to(dict_file.parent / "nowhere")
    assert main(["--source", str(copy), "--dict", str(dict_file)]) == 2
    assert "Freq_tab" in capsys.readouterr().err.splitlines()[-1]


def test_a_full_disk_is_one_line_and_what_was_converted_stays(project, capsys):
    dict_file, copy = project
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limits[1]))  # no file may be larger: tables fit, weights do not
    try:
        code = main(["--source", str(copy), "--dict", str(dict_file)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    line = capsys.readouterr().err.splitlines()[-1]
    assert code == 2 and "cannot be written (File too large)" in line and "goes on where it stopped" in line
    kept = imported(dict_file)
    assert "Freq_tab/coco/S1/segmentation_4.json" in kept and not [name for name in kept if "/." in name]
    summary = import_published(str(copy), dict_file)
    assert summary.complete == 2 and summary.present >= 1 and summary.present + summary.written == 4


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"{SHARED} is absent")
def test_the_shared_part_of_the_published_repository_is_imported(tmp_path, capsys):
    shutil.copy(layout.DICT_FILE, tmp_path)
    assert main(["--source", str(SHARED), "--dict", str(tmp_path / "dict.yaml")]) == 0
    out = capsys.readouterr().out
    assert "13 of 61 points imported, 48 files missing, 0 refused; 74 files written" in out
    assert len(out.splitlines()) == 49
