"""The learned rivals: at which rates, how large and how long each is trained. Nothing here needs compressai."""

from __future__ import annotations

from dataclasses import dataclass, replace

from spic.errors import SpicError

FINETUNED = ("decoder", "all")
STUDENTS_OWN = ("cut", "taps", "finetune", "finetune_epochs", "finetune_lr")  # settings that picture codecs have not


@dataclass(frozen=True)
class Recipe:
    """One rival at several rates; each starts from the one before it.

    ``lambdas``: for pictures the weight of 255² · mean squared error against bpp (compressai's scale); for the student
    the weight of bpp against the features' error relative to their variance (beta in its paper).
    An epoch is ``epoch_size`` random crops of ``limit`` pictures; ``epochs`` from scratch, ``refine`` from a neighbour.
    The student alone: it replaces the network up to ``cut`` (a module) and is judged there, and at later ``taps`` as in
    its paper (they need a longer training); ``finetune`` says what its second stage changes.
    """

    lambdas: tuple[float, ...]
    hidden: int
    latent: int
    epochs: int
    refine: int
    epoch_size: int = 1000
    batch_size: int = 8
    crop: int = 128
    lr: float = 1e-3
    limit: int = 2000
    seed: int = 0
    cut: str = ""
    taps: tuple[str, ...] = ()
    finetune: str = "decoder"
    finetune_epochs: int = 0
    finetune_lr: float = 1e-3

    def __post_init__(self) -> None:
        above_zero = [("lr", self.lr), ("finetune_lr", self.finetune_lr), *(("lambdas", x) for x in self.lambdas)]
        for name, value in above_zero:
            _require(0 < value < 1e6, name, value, "must be a number above 0")
        for name in ("hidden", "latent"):
            _require(getattr(self, name) <= 1024, name, getattr(self, name), "must be at most 1024")
        _require(0 < len(self.lambdas) <= 255, "lambdas", self.lambdas, "1 to 255 numbers: a byte tells which")


def _require(condition: bool, name: str, value, what: str) -> None:
    if not condition:
        raise SpicError(f"--{name} {value}: {what}")


_PICTURES = Recipe((0.025, 0.0067, 0.0018, 0.0005), hidden=48, latent=96, epochs=160, refine=30)
# what the paper cites as Variational: of its makers' size, and longer than the narrow one above
_HYPERPRIOR = replace(_PICTURES, hidden=128, latent=192, epochs=480, refine=90)
_STUDENT = Recipe((0.03, 0.1, 0.3, 1.0), hidden=48, latent=24, epochs=14, refine=4, lr=2e-3, cut="layer2.3",
                  finetune_epochs=3)
# behind dilated stages a crop of the second lesson costs four times as much
_SEGMENTING_STUDENT = replace(_STUDENT, epochs=10, refine=3, finetune_epochs=1, limit=400, cut="backbone.layer2.3")

CURVES = {"variational": "Variational", "hyperprior": "Scale hyperprior", "student": "Entropic Student"}
EXPECTED = ("variational", "hyperprior", "student")  # rivals of the paper's figures: named where they are missing
RECIPES = {
    ("variational", "classification"): _PICTURES, ("variational", "segmentation"): replace(_PICTURES, limit=400),
    ("hyperprior", "classification"): _HYPERPRIOR, ("hyperprior", "segmentation"): replace(_HYPERPRIOR, limit=400),
    ("student", "classification"): _STUDENT, ("student", "segmentation"): _SEGMENTING_STUDENT,
}
