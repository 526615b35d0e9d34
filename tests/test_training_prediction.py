"""Predicted against coded bits: estimators whose answer is known."""

import pytest
import torch

from spic.bottleneck import make_bottleneck
from spic.points import SHARED
from spic.training.prediction import compare
from spic.training.rate import Contextual, Hyperprior, Table
from spic.training.tables import count_tables

STEP, PIXELS, PICTURES = 0.1, 1000, 24


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return make_bottleneck((16, 20, 20), 6, 1).encoder.eval()


@pytest.fixture(scope="module")
def features():
    return torch.randn(PICTURES, 16, 20, 20, generator=torch.Generator().manual_seed(1)).relu()


def fitted(estimator, encoder, features):
    """The estimator after one look at the symbols."""
    with torch.inference_mode():
        estimator.train()(encoder(features) / STEP)
    return estimator


@pytest.mark.parametrize("estimator, kind", [(Table, "shared"), (Contextual, "context")])
def test_a_table_fitted_on_the_symbols_predicts_the_bytes_that_are_coded(encoder, features, estimator, kind):
    table = count_tables(encoder, features, STEP, [kind])[kind]
    rates = compare(fitted(estimator(6), encoder, features), encoder, features, table, STEP, PIXELS)
    assert rates["entropy_bpp"] == pytest.approx(table.entropy * 6 * 400 / PIXELS, rel=1e-6)
    assert 0 <= rates["coded_bpp"] - rates["entropy_bpp"] <= 8 / PIXELS + 0.001 * rates["entropy_bpp"]
    assert rates["predicted_bpp"] == pytest.approx(rates["coded_bpp"], rel=0.05)


def test_a_table_of_other_symbols_is_dearer_than_the_estimator_says(encoder, features):
    """The static table pays for what it was not counted on; the estimator that knows the symbols does not."""
    wrong = count_tables(encoder, features * 4, STEP, [SHARED])[SHARED]
    rates = compare(fitted(Table(6), encoder, features), encoder, features, wrong, STEP, PIXELS)
    assert rates["predicted_bpp"] < 0.9 * rates["entropy_bpp"]
    assert rates["coded_bpp"] == pytest.approx(rates["entropy_bpp"], rel=0.01)


def test_a_hyperpriors_prediction_holds_the_rate_of_its_latent(encoder, features):
    torch.manual_seed(0)
    table, estimator = count_tables(encoder, features, STEP, [SHARED])[SHARED], Hyperprior(6)
    both = compare(estimator, encoder, features, table, STEP, PIXELS)["predicted_bpp"]
    estimator.density.forward = torch.ones_like  # a latent that costs nothing
    alone = compare(estimator, encoder, features, table, STEP, PIXELS)["predicted_bpp"]
    assert 0 < alone < both


def test_the_estimator_is_left_in_evaluation_mode_and_nothing_is_random(encoder, features):
    table, estimator = count_tables(encoder, features, STEP, [SHARED])[SHARED], Hyperprior(6)
    first, second = (compare(estimator, encoder, features, table, STEP, PIXELS) for _ in range(2))
    assert first == second and not estimator.training
