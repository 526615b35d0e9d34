"""Rate estimators against known answers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spic.coding import FrequencyTable
from spic.errors import SpicError
from spic.training import rate
from spic.training.rate import ESTIMATORS, Contextual, Density, Table, folded_laplacian


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


def busy_places(pictures: int, seed: int) -> torch.Tensor:
    """Features of four channels that are large at the same places of a picture, and small elsewhere."""
    generator = torch.Generator().manual_seed(seed)
    busy = (torch.rand(pictures, 1, 9, 9, generator=generator) < 0.15) * 4.0 + 0.1
    return (busy * torch.randn(pictures, 4, 9, 9, generator=generator)).abs()


def test_contexts_predict_what_a_context_table_costs_and_less_than_a_shared_one():
    contextual, shared = Contextual(4), Table(4)
    for seed in range(10):
        contextual(busy_places(64, seed)), shared(busy_places(64, seed))
    symbols = busy_places(256, 100).round().int()
    table = FrequencyTable.from_symbols(busy_places(640, 200).round().int(), 1.0, "context")
    predicted, other = (estimator.eval()(symbols.float()).sum().item() for estimator in (contextual, shared))
    assert predicted == pytest.approx(table.cross_entropy(symbols), rel=0.02)
    assert predicted < 0.95 * other


def test_contexts_are_fitted_anew_now_and_then_and_counts_follow_in_between(monkeypatch):
    monkeypatch.setattr(Contextual, "REFIT", 6)
    estimator, seen = Contextual(4), []
    for batch in range(12):
        estimator(busy_places(16, batch))
        seen.append(estimator.contexts)
    changes = [i + 1 for i in range(12) if i == 0 or seen[i] is not seen[i - 1]]
    assert changes == [1, 2, 4, 6, 8, 12]
    assert estimator.counts.sum().item() == len(estimator.recent) * 4 * 81, "those of the pictures that it was fitted to"
    estimator(busy_places(16, 12))
    assert estimator.counts.sum().item() == pytest.approx((Table.MEMORY * 12 + 1) * 16 * 4 * 81)


@pytest.mark.parametrize("shape", [(5, 3, 1, 1), (5, 3, 1, 7), (1, 3, 2, 2)])
def test_contexts_of_small_maps_and_of_zeros(shape):
    for scale in (0, 3):
        estimator, x = Contextual(3), (torch.rand(shape, generator=torch.Generator().manual_seed(0)) * scale).requires_grad_()
        bits = estimator(x)
        bits.sum().backward()
        assert bits.shape == shape[:1] and x.grad.isfinite().all()


@pytest.mark.parametrize("change", [
    {"contexts": "{"}, {"contexts": '{"version": 1, "step": 1.0, "counts": {"0": 1}}'}, {"recent": torch.zeros(1, 4, 2, 2)},
    {"recent": torch.zeros(1, 3, 2, 2, dtype=torch.int16)}, {"recent": torch.full((1, 4, 2, 2), -1, dtype=torch.int16)}])
def test_a_state_of_another_kind_is_refused(change):
    state = Contextual(4).state_dict()
    Contextual(4).load_state_dict(state)
    with pytest.raises((ValueError, SpicError)):
        Contextual(4).load_state_dict({**state, "_extra_state": {**state["_extra_state"], **change}})


NOISE = (torch.arange(256, dtype=torch.float64) + 0.5) / 256 - 0.5
AWAY_FROM_INTEGERS = [0.13, 0.3, 0.49, 0.51, 0.7, 0.94, 1.2, 1.63, 2.45, 4.55, 9.3]


def expected_bits(estimator, x: torch.Tensor, monkeypatch) -> torch.Tensor:
    """Bits of one feature of value x among fixed neighbours, averaged evenly over the noise that stands for rounding."""
    batch = torch.full((len(NOISE), 2, 3, 3), 1.7, dtype=torch.float64)
    batch = batch.index_put((torch.arange(len(NOISE)), torch.tensor(1), torch.tensor(1), torch.tensor(1)), x.expand(len(NOISE)))
    noise = torch.zeros_like(batch)
    noise[:, 1, 1, 1] = NOISE

    def noisy(value: torch.Tensor, training: bool) -> torch.Tensor:
        return value + noise if value.shape == batch.shape else value

    for owner, name in ((rate, "_noisy"), (estimator, "noisy")):  # the Gaussian was given its own
        monkeypatch.setattr(owner, name, noisy, raising=False)
    return estimator(batch).mean()


@pytest.mark.parametrize("x", AWAY_FROM_INTEGERS)
@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_gradients_are_those_of_finite_differences(name, x, monkeypatch):
    """A likelihood that jumps gives a gradient that misses what the step over the jump costs."""
    torch.manual_seed(3)
    estimator = ESTIMATORS[name](2)
    if isinstance(estimator, Table):
        estimator(features()[:, :2, :3, :3])
        monkeypatch.setattr(type(estimator), "_follow", lambda self, symbols: None)
    estimator.double()
    for module in estimator.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()  # one place, not the statistics of all of them, is looked at
    place = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    expected_bits(estimator, place, monkeypatch).backward()
    h = 2 / len(NOISE)
    with torch.no_grad():
        high, low = (expected_bits(estimator, place + sign * h, monkeypatch) for sign in (1, -1))
    # the noise is a grid: within a step of it the average is exact up to the curvature
    assert place.grad.item() == pytest.approx(((high - low) / (2 * h)).item(), abs=0.03)


def test_the_folded_laplacian_has_no_jump_and_keeps_its_integers():
    spread = torch.tensor([0.05, 0.3, 1.0, 7.0], dtype=torch.float64)[:, None]
    line = torch.linspace(-0.5, 6, 65_001, dtype=torch.float64)
    mass = folded_laplacian(line, spread)
    assert (mass.diff(dim=1).abs() < 1e-4 / spread.clamp_max(1) + 1e-4).all()
    whole = torch.arange(1, 6, dtype=torch.float64)
    expected = torch.exp(-(whole - 0.5) / spread) - torch.exp(-(whole + 0.5) / spread)
    torch.testing.assert_close(folded_laplacian(whole, spread), expected)
    torch.testing.assert_close(folded_laplacian(torch.zeros(1, dtype=torch.float64), spread), 1 - torch.exp(-0.5 / spread))
