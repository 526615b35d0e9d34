"""The papers' own variants: the Gaussian hyperprior, the absolute error of the logits, and a layer that is matched."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spic.errors import SpicError
from spic.networks import cut, narrow
from spic.networks.cut import answers
from spic.training.distortion import Output, distill_loss, layer_error, logits_error, matched
from spic.training.gaussian import folded_gaussian
from spic.training.rate import ESTIMATORS


@given(st.floats(0.11, 60))
@settings(deadline=None)
def test_the_masses_of_all_symbols_sum_to_one(scale):
    masses = folded_gaussian(torch.arange(0, 600, dtype=torch.float64), torch.tensor(scale, dtype=torch.float64))
    assert masses.sum() == pytest.approx(1, abs=1e-9) and (masses >= 0).all() and (masses.diff()[1:] <= 1e-12).all()


def test_the_mass_of_nothing_is_that_of_half_a_step_on_each_side():
    assert folded_gaussian(torch.tensor(0.0), torch.tensor(1.0)).item() == pytest.approx(0.382925, abs=1e-6)
    assert folded_gaussian(torch.tensor(-0.4), torch.tensor(1.0)) == folded_gaussian(torch.tensor(0.0), torch.tensor(1.0))


def test_the_gaussian_estimator_learns_what_a_source_costs():
    """Half-normal values of scale 2 cost 2.05 bits a symbol; the estimator begins far from it and comes close."""
    torch.manual_seed(0)
    estimator = ESTIMATORS["gaussian"](2)
    optimizer = torch.optim.Adam(estimator.parameters(), 0.03)
    for _ in range(60):
        bits = estimator.train()(2 * torch.randn(8, 2, 4, 4).abs()).mean() / 32
        optimizer.zero_grad(), bits.backward(), optimizer.step()
    with torch.no_grad():
        found = estimator.eval()(2 * torch.randn(200, 2, 4, 4).abs())
    masses = folded_gaussian(torch.arange(0, 60.0), torch.tensor(2.0))
    entropy = -(masses[masses > 0] * masses[masses > 0].log2()).sum().item()
    assert found.shape == (200,) and entropy - 0.1 < found.mean().item() / 32 < entropy + 0.5


def test_absolute_errors_are_means_in_the_units_of_what_is_matched():
    student, teacher = Output(torch.tensor([[1.0, 2.0]]), torch.zeros(1, 4)), Output(torch.tensor([[0.0, 4.0]]), torch.ones(1, 4))
    assert logits_error(student, teacher) == 1.5 and layer_error(student, teacher) == 1.0


def test_a_distortion_is_known_by_its_name():
    assert matched("task") == (None, None) and matched("distill") == (distill_loss, None)
    assert matched("mae") == (logits_error, None) and matched("mae@layer4.1") == (layer_error, "layer4.1")
    for wrong in ("mse", "mae@", "distill@fc", ""):
        with pytest.raises(SpicError, match="unknown distortion.*task, distill, mae"):
            matched(wrong)


def test_the_layer_that_is_matched_is_the_module_s_output():
    torch.manual_seed(0)
    network, image = narrow.resnet50(0.125, 4).eval(), torch.randn(2, 3, 64, 64)
    front, back, _ = cut(network, "layer3.4", image)
    seen = {}
    for name in ("layer4.0", "avgpool"):
        network.get_submodule(name).register_forward_hook(lambda module, given, gave, name=name: seen.update({name: gave}))
    with torch.no_grad():
        logits = network(image)
        for name, expected in list(seen.items()):
            found, hidden = answers(back, name)(front(image))
            assert torch.allclose(found, logits, atol=1e-5) and torch.allclose(hidden, expected, atol=1e-5)
    with pytest.raises(SpicError, match="unknown cut 'layer2.0'"):
        answers(back, "layer2.0")
