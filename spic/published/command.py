"""spic import --source DIR_OR_URL   import the published weights and tables
spic import --audit               what they say, beside the published figures
"""

from __future__ import annotations

import argparse
from pathlib import Path

from spic.benchmarks.imagenet import ARCHIVE_URL
from spic.commands import guarded
from spic.errors import SpicError
from spic.points import DICT_FILE
from spic.published.audit import audit_imported, audit_source
from spic.published.audit_report import render
from spic.published.importing import Summary, import_published


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="spic import", description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", metavar="DIR_OR_URL",
                        help="a copy of the published repository: a folder, a git clone, a .zip or .tar.gz archive, "
                             f"or the http(s) address of one, such as {ARCHIVE_URL}")
    parser.add_argument("--audit", action="store_true",
                        help="import nothing; report on the artefacts of --source, without it on the imported ones")
    parser.add_argument("--dict", type=Path, default=DICT_FILE, metavar="FILE",
                        help="the operating points; files are written beside it (default: %(default)s)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args = get_parser().parse_args(argv)
    return guarded(lambda: run(args))


def run(args: argparse.Namespace) -> None:
    if args.audit:
        print(render(audit_source(args.source, args.dict) if args.source else audit_imported(args.dict)))
    elif args.source:
        report(import_published(args.source, args.dict))
    else:
        raise SpicError(f"nothing to do: give --audit, or --source DIR_OR_URL (the published files: {ARCHIVE_URL})")


def report(summary: Summary) -> None:
    """Missing and refused files one by one, then the summary; refused files are an error."""
    for name in summary.missing:
        print(f"missing: {name}")
    for reason in summary.refused.values():
        print(f"refused: {reason}")
    print(summary)
    if summary.refused:
        raise SpicError(f"{len(summary.refused)} files were refused; get a fresh copy from {ARCHIVE_URL}")
