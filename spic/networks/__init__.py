"""Networks: a name gives one (zoo), its graph is cut in two (cut), BatchNorm is folded (fold), costs are counted (cost)."""

from spic.networks.cut import cut, cut_many
from spic.networks.graph import trace

__all__ = ["cut", "cut_many", "trace"]
