"""What tests of curves share: records of points and rivals, and curves of given markers."""

import json

from spic.curves.results import Curve, Point


def curve(name, *markers):
    return Curve(name, tuple(Point(str(i), bpp, accuracy) for i, (bpp, accuracy) in enumerate(markers)))


def record(split_point="S1", factor=0, bpp=0.1, top1=70.0, **more):
    return {"task": "classification", "benchmark": "scenes", "split_point": split_point, "compress_factor": factor,
            "coder": "huffman", "images": 1000, "top1": top1, "baseline_top1": 76.0, "bpp": bpp, "bpp_wire": bpp * 1.5,
            "bytes_per_image": bpp * 224 * 224 / 8, **more}


def rival(codec="jpeg", quality=10, **more):
    made = record(**more) | {"codec": codec, "quality": quality, "chroma": "4:2:0", "settings": "plain",
                             "versions": {codec: "x 1.0"}}
    return {key: value for key, value in made.items() if key not in ("split_point", "compress_factor", "coder")}


def write(folder, *records, name="results.json"):
    path = folder / name
    path.write_text(json.dumps(list(records)))
    return path
