"""Checkpoints of a training: what a damaged or foreign one says."""

import pytest
import torch
from torch import nn

from spic.errors import SpicError
from spic.training.checkpoint import Run

IDENTITY = {"step": 1.0}


def parts():
    torch.manual_seed(0)
    network = nn.Linear(3, 2)
    optimizer = torch.optim.Adam([{"params": list(network.parameters()), "factor": 0.5}], lr=0.1)
    network(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    return {"network": network, "optimizer": optimizer}


@pytest.fixture
def run(tmp_path):
    run = Run(tmp_path / "run.pt", IDENTITY)
    run.save(3, **parts())
    return run


def rewrite(run, change):
    state = torch.load(run.path, weights_only=True)
    other = change(state)  # in place, or another one
    torch.save(state if other is None else other, run.path)


def test_a_checkpoint_restores_its_parts(run):
    saved, restored = parts(), parts()
    nn.init.zeros_(restored["network"].weight)
    restored["optimizer"].state.clear()
    assert run.restore(**restored) == 3
    assert torch.equal(restored["network"].weight, saved["network"].weight)
    exp_avg = restored["optimizer"].state[restored["network"].weight]["exp_avg"]
    assert torch.equal(exp_avg, saved["optimizer"].state[saved["network"].weight]["exp_avg"])


def test_moments_whose_numbers_share_a_place_in_memory_can_be_gone_on_with(run):
    rewrite(run, lambda s: moments(s).update(exp_avg=torch.zeros(1).expand(2, 3)))
    restored = parts()
    run.restore(**restored)
    restored["network"](torch.randn(4, 3)).sum().backward()
    restored["optimizer"].step()


@pytest.mark.parametrize("change", [
    lambda s: [1], lambda s: {}, lambda s: s.pop("done") and None, lambda s: s.pop("parts") and None,
    lambda s: s.update(identity=["step"]), lambda s: s.update(identity=None), lambda s: s.update(parts=[1]),
    lambda s: s.update(done="3"), lambda s: s.update(done=-1), lambda s: s.update(done=True), lambda s: s.update(done=1.5),
], ids=["list", "empty", "no-done", "no-parts", "identity-list", "identity-none", "parts-list", "text", "negative", "true", "half"])
def test_a_checkpoint_with_missing_or_odd_entries_is_one_line(run, change):
    rewrite(run, change)
    with pytest.raises(SpicError, match="run.pt: not a readable checkpoint; delete it to start over$"):
        run.restore(**parts())


def moments(state):
    return state["parts"]["optimizer"]["state"][0]


@pytest.mark.parametrize("part, change", [
    ("optimizer", lambda s: s["parts"].pop("optimizer") and None),
    ("optimizer", lambda s: s["parts"].update(optimizer=[1])),
    ("optimizer", lambda s: s["parts"]["optimizer"].pop("param_groups") and None),
    ("optimizer", lambda s: s["parts"]["optimizer"]["param_groups"].clear()),
    ("optimizer", lambda s: s["parts"]["optimizer"]["param_groups"][0].pop("lr") and None),
    ("optimizer", lambda s: moments(s).pop("exp_avg") is None or None),
    ("optimizer", lambda s: moments(s).update(exp_avg=torch.zeros(5))),
    ("optimizer", lambda s: s["parts"]["optimizer"].update(state={0: [1]})),
    ("network", lambda s: s["parts"]["network"].pop("bias") is None or None),
    ("network", lambda s: s["parts"]["network"].update(bias=torch.zeros(5))),
    ("network", lambda s: s["parts"]["network"].update(bias="none")),
    ("network", lambda s: s["parts"].update(network=None)),
], ids=["no-optimizer", "list", "no-groups", "fewer-groups", "no-lr", "no-moment", "moment-shape", "state-list", "no-bias",
        "shape", "text", "none"])
def test_a_checkpoint_whose_parts_do_not_fit_is_one_line_that_names_the_part(run, part, change):
    rewrite(run, change)
    with pytest.raises(SpicError, match=f"run.pt: its {part} does not fit this run .*; delete it to start over$") as caught:
        run.restore(**parts())
    assert "\n" not in str(caught.value)
