"""kill -9 at random moments, and the same command again until it is through: is the result that of a run left in peace?

    python bench/kill.py --times 20
    python bench/kill.py --only train scenes --times 3 --seed 7 --published DIR

Each job is killed ``--times`` times; a run that is through before its moment came is compared, and the job starts afresh.
By turns the main process alone is killed, or all of its processes. Equal means bit for bit: weights, tables, dict.yaml,
pictures, records, rows and logs; only seconds and times of files are left out. Runs are forked from this program, which
has everything loaded, so that moments fall into the work. Ends with code 1 if anything differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from spic import evaluate, scenes, val
from spic.commands import Parser, natural, positive
from spic.datasets.scenes import ensure_scenes
from spic.datasets.scenes.kinds import KINDS
from spic.errors import SpicError
from spic.points import DICT_FILE
from spic.published import command as importing
from spic.report import aligned
from spic.training import command as training
from spic.training import fit

PICTURES = 48
PATIENCE_S = 120.0
ORPHANS_S = 10.0


@dataclass(frozen=True)
class Job:
    """One command. prepare(base) is called once, run(base, place) in a process of its own; its files lie in ``place``."""

    name: str
    run: Callable[[Path, Path], int]
    prepare: Callable[[Path], None] = lambda base: None


def _draw(base: Path) -> None:
    ensure_scenes("classification", "val", PICTURES)
    ensure_scenes("classification", "val", 30, root=base / "pictures")


def _val(base: Path, place: Path) -> int:
    """Progress is kept after every batch; it lies in the cache, under ``passes``."""
    return val.main("classification", [
        "--split_point", "S1", "S3", "--compress_factor", "0", "1", "--batch_size", "2", "--workers", "0",
        "--output", str(place), "--per_image", str(place)])


def _train(base: Path, place: Path) -> int:
    (folder,) = (path for path in (base / "pictures").iterdir() if path.is_dir())
    resumed = ["--resume"] if list((place / "runs").rglob("*.pt")) else []
    return training.main("classification", [
        "--network", "narrow:resnet50/0.0625", "--cut", "layer2.0", "--weights", "random", "--split_point", "US1",
        "--data", str(folder), "--lambda", "10", "50", "--steps", "24", "--batch_size", "8",
        "--output", str(place), *resumed])


def _import(base: Path, place: Path) -> int:
    place.mkdir(exist_ok=True)
    if not (place / "dict.yaml").exists():
        shutil.copyfile(DICT_FILE, place / "dict.yaml")
    return importing.main(["--source", str(PUBLISHED[0]), "--dict", str(place / "dict.yaml")])


def _scenes(base: Path, place: Path) -> int:
    return scenes.main(["--task", "segmentation", "--count", "60", "--root", str(place), "--workers", "2"])


PUBLISHED: list[Path] = []
JOBS = {job.name: job for job in (
    Job("val", _val, _draw), Job("train", _train, _draw), Job("import", _import), Job("scenes", _scenes))}


# ---- one process -------------------------------------------------------------------------------------------------------


def start(job: Job, base: Path, place: Path) -> int:
    """Fork a process that runs the job; its id, which is also that of its group."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 99
    try:
        os.setsid()
        output = os.open(base / f"{job.name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1), os.dup2(output, 2)
        evaluate.KEEP_SECONDS = fit.CHECKPOINT_SECONDS = 0.0
        code = job.run(base, place)
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)


def ended_within(pid: int, seconds: float) -> int | None:
    """The exit code of the process, None if it goes on."""
    limit = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > limit:
            return None
        time.sleep(0.002)


def kill(pid: int, group: bool) -> None:
    (os.killpg if group else os.kill)(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def outlived(group: int) -> bool:
    """Whether processes of a killed one still run after a while."""
    limit = time.monotonic() + ORPHANS_S
    while time.monotonic() < limit:
        try:
            os.killpg(group, 0)
        except OSError:
            return False
        time.sleep(0.1)
    return True


# ---- what is compared --------------------------------------------------------------------------------------------------


def state(place: Path) -> dict[str, str]:
    """Path -> SHA-256 of every file, without seconds and times of files; what a killed writer left half done is
    no result."""
    files = [path for path in sorted(place.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    return {str(path.relative_to(place)): hashlib.sha256(_content(path)).hexdigest() for path in files}


def leftovers(place: Path) -> int:
    return sum(path.name.startswith(".") and path.is_file() for path in place.rglob("*"))


def _content(path: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix == ".json":
        return json.dumps(_timeless(json.loads(data))).encode()
    if path.suffix == ".jsonl":
        return json.dumps([_timeless(json.loads(line)) for line in data.splitlines()]).encode()
    if path.name == "files.txt":  # of the scenes: SHA-256, size, times, path
        lines = [line.split(" ", 4) for line in data.decode().split("\n") if line.count(" ") >= 4]
        return json.dumps(sorted({name: (digest, size) for digest, size, *_, name in lines}.items())).encode()
    if path.suffix == ".pt":
        return repr(_plain(torch.load(path, weights_only=True))).encode()
    return data


def _timeless(content):
    if isinstance(content, dict):
        return {key: _timeless(value) for key, value in content.items() if "seconds" not in key}
    return content


def _plain(content):
    """Tensors as their bytes; a checkpoint's own bytes also tell which of them shared memory."""
    if isinstance(content, dict):
        return {key: _plain(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return list(map(_plain, content))
    if isinstance(content, torch.Tensor):
        return str(content.dtype), tuple(content.shape), hashlib.sha256(content.contiguous().numpy().tobytes()).hexdigest()
    return content


def differing(one: dict, other: dict) -> list[str]:
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


# ---- one job -----------------------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """What came of a job. peace_s: seconds of the run left in peace. through: how often the job came to its end."""

    peace_s: float = 0.0
    kills: int = 0
    alone: int = 0
    through: int = 0
    equal: int = 0
    leftovers: int = 0
    problems: list[str] = field(default_factory=list)


class Arena:
    """Where a job runs: its outputs in ``place``, at the same path each time, and its partial counts in the cache."""

    def __init__(self, job: Job, base: Path):
        self.job, self.base, self.place = job, base, base / "place"

    def clear(self) -> None:
        for folder in (self.place, self.base / "cache" / "passes", self.base / "cache" / "features"):
            shutil.rmtree(folder, ignore_errors=True)

    def finish(self) -> dict[str, str]:
        """Run to the end in peace; what is there then."""
        code = ended_within(start(self.job, self.base, self.place), PATIENCE_S)
        if code != 0:
            said = (self.base / f"{self.job.name}.log").read_text(errors="replace").splitlines()[-3:]
            raise SpicError(f"{self.job.name}: ended with code {code}: {' / '.join(said)[-600:]}")
        return state(self.place)


def torment(job: Job, base: Path, times: int, seed: int) -> Tally:
    """Kill the job ``times`` times, let it end, and compare."""
    rng, tally, arena = random.Random(f"{seed} {job.name}"), Tally(), Arena(job, base)
    os.environ["SPIC_CACHE"] = str(base / "cache")
    _apart(lambda: job.prepare(base))
    arena.clear()
    begun = time.monotonic()
    whole = arena.finish()
    tally.peace_s = time.monotonic() - begun
    arena.clear()
    while tally.kills < times:
        pid, group = start(job, base, arena.place), rng.random() < 0.5
        code = ended_within(pid, rng.uniform(0.02, tally.peace_s))
        if code is None:
            kill(pid, group)
            tally.kills, tally.alone = tally.kills + 1, tally.alone + (not group)
            if rng.random() < 0.5 and outlived(pid):  # at other times the next run begins at once
                tally.problems.append(f"processes of a killed run outlive it by {ORPHANS_S:g} s")
        else:
            tally.problems += [f"a run that was resumed ended with code {code}"] if code else []
            _compare(arena, whole, tally)
    _compare(arena, whole, tally)
    return tally


def _apart(work: Callable[[], None]) -> None:
    """In a process of its own: a parent that has forked workers or started threads is none to fork from."""
    pid = os.fork()
    if not pid:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    if os.waitpid(pid, 0)[1]:
        raise SpicError("the pictures could not be drawn")


def _compare(arena: Arena, whole: dict, tally: Tally) -> None:
    """Let the job end, compare, and clear its place."""
    tally.through += 1
    try:
        now = arena.finish()
    except SpicError as error:
        tally.problems.append(str(error))
        now = {}
    found = differing(whole, now)
    tally.equal += not found
    tally.leftovers += leftovers(arena.place)
    if found:
        tally.problems.append(f"{len(found)} of {len(whole)} files differ: {', '.join(found[:5])}")
    arena.clear()


def row(name: str, tally: Tally) -> dict:
    return {"job": name, "seconds in peace": f"{tally.peace_s:.1f}", "kills": tally.kills, "of main alone": tally.alone,
            "ended": tally.through, "equal": tally.equal, "half files left": tally.leftovers,
            "problems": len(tally.problems)}


def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=positive, default=20, help="kills of each job (default: %(default)s)")
    parser.add_argument("--only", nargs="+", choices=JOBS, default=list(JOBS), metavar="JOB", help=", ".join(JOBS))
    parser.add_argument("--seed", type=natural, default=0, help="of the moments (default: %(default)s)")
    parser.add_argument("--published", type=Path, metavar="DIR", help="a copy of the published files, for the import")
    args = parser.parse_args(argv)
    if "import" in args.only and not (args.published and args.published.is_dir()):
        parser.error("the import needs --published DIR, or leave it out by --only")
    PUBLISHED[:] = [args.published]
    torch.set_num_threads(1)
    KINDS["classification"] = replace(KINDS["classification"], validation_count=PICTURES)
    rows, problems = [], []
    for name in args.only:
        with tempfile.TemporaryDirectory() as base:
            try:
                tally = torment(JOBS[name], Path(base), args.times, args.seed)
                rows.append(row(name, tally))
                problems += [f"{name}: {problem}" for problem in tally.problems]
            except SpicError as error:
                problems.append(str(error))
        print(aligned(rows[-1:]), *problems, sep="\n", flush=True)
    print(aligned(rows))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
