"""What tests of curves share: records of points and rivals, and curves of given markers."""

import dataclasses

from spic.curves.comparison import Curve, Point
from spic.record import Record, Results


def curve(name, *markers):
    return Curve(name, tuple(Point(str(i), bpp, accuracy) for i, (bpp, accuracy) in enumerate(markers)))


def record(split_point="S1", factor=0, bpp=0.1, top1=70.0, baseline=76.0, **more):
    fields = dict(task="classification", benchmark="scenes", split_point=split_point, compress_factor=factor,
                  coder="huffman", tables="shared", images=1000, scores={"top1": top1}, baseline={"top1": baseline}, bpp=bpp,
                  bpp_wire=bpp * 1.5, bytes_per_image=bpp * 224 * 224 / 8)
    return Record(**fields | more)


def rival(codec="jpeg", quality=10, **more):
    of_points = dict(split_point=None, compress_factor=None, coder=None, tables=None)
    return dataclasses.replace(record(**more), codec=codec, quality=quality, chroma="4:2:0", settings="plain",
                               versions={codec: "x 1.0"}, **of_points)


def write(folder, *records, name="results.json", missing=None):
    path = folder / name
    Results(tuple(records), missing or {}).write(path)
    return path
