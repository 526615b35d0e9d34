"""Rate estimators against known answers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spic.training.rate import ESTIMATORS, Density, Table, folded_laplacian


def entropy_bits(symbols: torch.Tensor) -> float:
    """Bits of all symbols under their own frequencies."""
    share = torch.bincount(symbols.flatten().long()).double() / symbols.numel()
    share = share[share > 0]
    return -(share * share.log2()).sum().item() * symbols.numel()


def features(seed: int = 0, scale: float = 3.0) -> torch.Tensor:
    return torch.randn(8, 4, 6, 6, generator=torch.Generator().manual_seed(seed)).relu() * scale


def test_table_gives_the_code_length_of_its_own_table():
    estimator, x = Table(4), features()
    estimator(x)
    total = estimator.eval()(x).sum().item()
    assert total == pytest.approx(entropy_bits(x.round()), rel=0.01)


def test_table_per_channel_never_costs_more_than_a_shared_one():
    x = features() * torch.tensor([0.2, 1, 2, 4]).view(1, 4, 1, 1)
    totals = []
    for tables in ("shared", "channel"):
        estimator = Table(4, tables)
        estimator(x)
        totals.append(estimator.eval()(x).sum().item())
    assert totals[1] < totals[0]
    assert totals[1] == pytest.approx(sum(entropy_bits(x[:, c].round()) for c in range(4)), rel=0.02)


def test_soft_length_lies_on_the_line_between_neighbouring_symbols():
    estimator = Table(1)
    estimator(features()[:, :1])
    estimator.counts *= 1e6  # so that one more symbol changes nothing
    lengths = estimator.lengths()[0]
    for low, share in ((0, 0.25), (1, 0.5), (3, 0.75)):
        x = torch.full((1, 1, 1, 1), low + share)
        between = lengths[low] * (1 - share) + lengths[low + 1] * share
        assert estimator(x).item() == pytest.approx(between.item(), abs=0.02)


@given(spread=st.floats(0.05, 20))
@settings(max_examples=40, deadline=None)
def test_folded_laplacian_is_a_distribution_over_symbols(spread):
    symbols = torch.arange(600.0)
    assert folded_laplacian(symbols, torch.tensor(spread)).sum().item() == pytest.approx(1, abs=1e-4)


def test_density_is_a_distribution_over_integers():
    torch.manual_seed(0)
    mass = Density(3)(torch.arange(-300.0, 301).view(1, 1, -1, 1).expand(1, 3, -1, 1))
    assert (mass >= 0).all()
    assert mass.sum(2).squeeze().tolist() == pytest.approx([1, 1, 1], abs=1e-4)


@pytest.mark.parametrize("name", ["factorized", "hyperprior"])
def test_a_trained_estimator_comes_close_to_the_entropy(name):
    torch.manual_seed(0)
    estimator, x = ESTIMATORS[name](4), features()
    optimizer = torch.optim.Adam(estimator.parameters(), lr=0.05)
    for _ in range(150):
        loss = estimator(x).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 1.25 * entropy_bits(x.round())


@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_every_estimator_pulls_features_towards_fewer_bits(name):
    torch.manual_seed(0)
    estimator, x = ESTIMATORS[name](4), features().requires_grad_()
    bits = estimator(x)
    assert bits.shape == (8,)
    bits.sum().backward()
    assert x.grad[x > 6].mean() > 0, "large features must be made smaller"


def test_l1_is_the_sum_of_sizes():
    assert ESTIMATORS["l1"](2)(torch.tensor([[[[1.0]], [[2.5]]]])).tolist() == [3.5]
