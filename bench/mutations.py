"""Damage to bytes, texts, JSON and archives, as bench/fuzz.py throws it at what reads them; seeded."""

from __future__ import annotations

import copy
import gzip
import io
import random
import struct
import tarfile
import zipfile
from typing import Any

STRANGE = (None, True, False, 0, -1, 1, 0.5, -0.0, 1e308, -1e308, 5e-324, 1e999, -1e999, float("nan"), 2**31, 2**63, -2**63,
           10**30, 10**400, "", "x", "NaN", "../../x", "/etc/passwd", "a" * 300, "\0", "\u202e\n", "\ud800", "1", [], {},
           [[]],
           [1, 2, 3], {"a": 1})
_PIECES = ("{", "}", "[", "]", ":", ",", "\n", " ", "&a ", "*a", "<<: ", "!!python/object:os.system ", "${x}",
           "${oc.env:HOME}",
           "? ", "- ", "|", "#", "'", '"', "\t", "%", "---\n", "null", "true", "1e999", ".nan", "0x7f", "1_0", "9" * 400,
           "-1",
           "\0", "\ufeff", "\u2028", "{" * 2000, "[" * 2000)


def changed_text(text: str, rng: random.Random) -> str:
    """Pieces of YAML's and JSON's grammar put in, or spans and lines cut out, doubled or moved."""
    for _ in range(rng.randint(1, 3)):
        place, length = rng.randrange(len(text) + 1), rng.randint(1, 30)
        match rng.randrange(5):
            case 0: text = text[:place] + rng.choice(_PIECES) + text[place:]
            case 1: text = text[:place] + rng.choice(_PIECES) + text[place + length:]
            case 2: text = text[:place] + text[place + length:]
            case 3: text = text[:place] + text[place:place + length] + text[place:]
            case 4: text = _shuffled(text, rng)
    return text


def _shuffled(text: str, rng: random.Random) -> str:
    lines = text.split("\n")
    lines.insert(rng.randrange(len(lines) + 1), rng.choice(lines))
    del lines[rng.randrange(len(lines))]
    return "\n".join(lines)


def changed_word(text: str, rng: random.Random) -> str:
    """One number, word or bracket of a text becomes something strange."""
    for mark in ",:{}[]":
        text = text.replace(mark, f" {mark} ")
    words = text.split(" ")
    words[rng.choice([i for i, word in enumerate(words) if word])] = rng.choice((*_PIECES, *map(str, STRANGE)))
    return " ".join(words)


def changed_tree(tree: Any, rng: random.Random, strange: tuple = STRANGE) -> Any:
    """A copy of lists and dicts in which one to three nodes are replaced, lost, doubled or renamed."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        holders = list(_holders(tree))
        if not holders:
            return rng.choice(strange)
        holder = rng.choice(holders)
        key = rng.choice(list(holder)) if isinstance(holder, dict) else rng.randrange(len(holder))
        _change(holder, key, rng, strange)
    return tree


def _holders(tree: Any):
    if isinstance(tree, (dict, list)) and tree:
        yield tree
        for value in tree.values() if isinstance(tree, dict) else tree:
            yield from _holders(value)


def _change(holder, key, rng: random.Random, strange: tuple) -> None:
    match rng.randrange(8):
        case 0: del holder[key]
        case 1 if isinstance(holder, dict): holder[rng.choice(("", "x", "a" * 300, "\0", f"{key}x"))] = holder.pop(key)
        case 1: holder.append(holder[key])
        case 2: holder[key] = [holder[key]]
        case 3 if type(holder[key]) in (int, float): holder[key] = _moved(holder[key], rng)
        case 3 if isinstance(holder[key], str): holder[key] = changed_text(holder[key], rng)
        case _: holder[key] = copy.deepcopy(rng.choice(strange))


def _moved(value: int | float, rng: random.Random) -> int | float:
    whole = (-value, value + 1, value - 1, value * 10, value * 1_000_000)
    return rng.choice(whole if abs(value) > 1e300 else (*whole, float(value), value * 0.5))  # beyond, no float holds it


# ---- archives ----------------------------------------------------------------------------------------------------

_SIZES = (0, 1, 0x7FFFFFFF, 0xFFFFFFFF)
ARCHIVES = ("zip", "gnu.tar", "pax.tar", "gnu.tar.gz")


def archive(kind: str) -> bytes:
    """An archive of each kind with a wanted file, another, and long names."""
    buffer = io.BytesIO()
    files = {"top/wanted": b"0123456789", "top/other": bytes(700), "top/" + "n" * 150: b"x"}
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
            for name, data in files.items():
                file.writestr(zipfile.ZipInfo(name), data)
        return buffer.getvalue()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT if "pax" in kind else tarfile.GNU_FORMAT) as file:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    return gzip.compress(buffer.getvalue(), mtime=0) if kind.endswith("gz") else buffer.getvalue()


def changed_archive(data: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, a piece cut out or doubled, or the end cut off; a tar header's sum is made right at times."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        place, length = rng.randrange(len(changed)), rng.randint(1, 600)
        match rng.randrange(6):
            case 0: changed[place] = rng.randrange(256)
            case 1: changed[place:place + 4] = struct.pack("<I", rng.choice((*_SIZES, rng.getrandbits(32))))
            case 2: del changed[place:place + length]
            case 3: changed[place:place] = changed[place:place + length]
            case 4: changed[place:place + length] = rng.randbytes(min(length, len(changed) - place))
            case 5: del changed[max(place, len(changed) // 2):]
        changed = changed or bytearray(1)
    if rng.random() < 0.7:
        _right_sums(changed)
    return bytes(changed)


def _right_sums(data: bytearray) -> None:
    for start in range(0, len(data) - 511, 512):
        if data[start + 257:start + 262] == b"ustar":
            block = bytes(data[start:start + 148]) + b" " * 8 + bytes(data[start + 156:start + 512])
            data[start + 148:start + 156] = b"%06o\0 " % sum(block)


def repacked(data: bytes, rng: random.Random, change) -> bytes:
    """A zip file (of torch, too) in which ``change(bytes, rng)`` damaged one member, and every checksum is right."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(buffer, "w") as target:
        members = source.infolist()
        chosen = rng.choice([member for member in members if member.filename.endswith(".pkl")] * len(members) + members)
        for member in members:
            content = source.read(member)
            target.writestr(zipfile.ZipInfo(member.filename), change(content, rng) if member is chosen else content)
    return buffer.getvalue()
