"""What the classes of the data sets are called, and the colours segmentation is usually shown in: (R, G, B) in 0..255."""
from __future__ import annotations

from functools import cache
from pathlib import Path

# The 1000 WordNet ids in the class order of the ImageNet challenge 2012 (and of torchvision's weights).
WORDNET_IDS = tuple(Path(__file__).with_name("imagenet_wnids.txt").read_text().split())

VOC = ("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "dining table",
       "dog", "horse", "motorbike", "person", "potted plant", "sheep", "sofa", "train", "tv monitor")

CAMVID = ("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "cyclist")
# as the SegNet tutorial shows them
CAMVID_PALETTE = ((128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222), (128, 128, 0),
                  (192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192))


@cache
def imagenet() -> tuple[str, ...]:
    """The 1000 classes of ImageNet in English, as torchvision's weights name them."""
    from torchvision.models import ResNet50_Weights  # late: importing all of torchvision's networks takes seconds

    return tuple(ResNet50_Weights.IMAGENET1K_V1.meta["categories"])


def readable(folders: tuple[str, ...] | list[str]) -> tuple[str, ...]:
    """Names of classes as people read them: WordNet ids become ImageNet's English names, underscores spaces."""
    places = {wordnet_id: place for place, wordnet_id in enumerate(WORDNET_IDS)}
    return tuple(imagenet()[places[name]] if name in places else name.replace("_", " ") for name in folders)


def voc_palette(classes: int = len(VOC)) -> tuple[tuple[int, int, int], ...]:
    """The colours of PASCAL VOC for any number of classes up to 256: bits of the class number, spread over R, G and B."""
    return tuple(_voc_colour(number) for number in range(classes))


def _voc_colour(number: int) -> tuple[int, int, int]:
    """Bits 0, 3, 6 of the number are the highest bits of red, and so on; bits 1, 4, 7 green's; 2 and 5 blue's."""
    return tuple(sum((number >> 3 * place + channel & 1) << 7 - place for place in range(3)) for channel in range(3))
