"""The cut: nothing is lost, nothing is copied, nothing changes."""

import pytest
import torch
import torchvision

from spic.errors import SpicError
from spic.networks import cut, cut_many, deeplabv3_resnet50, resnet50
from spic.networks.split import PUBLISHED_BRANCH, Back, PixelBack, first, join, parts

SPLITS = {
    "classification": ["S1", "S2", "S3", "US1", "US2", "layer1.0"],
    "segmentation": ["S1", "S2", "S3", PUBLISHED_BRANCH],
}


@pytest.fixture(scope="module")
def networks():
    torch.manual_seed(0)
    return {"classification": (resnet50(0.125, 10).eval(), torch.randn(2, 3, 64, 64)),
            "segmentation": (deeplabv3_resnet50(0.125, 5).eval(), torch.randn(2, 3, 65, 65))}


@pytest.mark.parametrize("task,split", [(task, split) for task in SPLITS for split in SPLITS[task]])
def test_back_of_front_is_the_network_bit_for_bit(networks, task, split):
    network, image = networks[task]
    front, back = cut(network, split)
    with torch.no_grad():
        assert torch.equal(back(front(image)), network(image))


@pytest.mark.parametrize("task,split", [(task, split) for task in SPLITS for split in SPLITS[task]])
def test_each_parameter_lives_in_exactly_one_half(networks, task, split):
    network, _ = networks[task]
    edge, cloud = ({id(p) for p in half.parameters()} for half in cut(network, split))
    assert edge | cloud == {id(p) for p in network.parameters()}
    assert not edge & cloud


def test_segments_of_a_network_cut_at_many_points_continue_each_other(networks):
    network, image = networks["classification"]
    fronts, backs = cut_many(network, ["S3", "S2", "S1"])
    feature = image
    with torch.no_grad():
        for split, front, back in zip(("S3", "S2", "S1"), fronts, backs):
            feature = front(feature)
            assert torch.equal(feature, cut(network, split)[0](image))
            assert torch.equal(back(feature), network(image))


def test_a_half_never_overwrites_the_feature_it_is_given(networks):
    network, image = networks["classification"]
    fronts, backs = cut_many(network, ["bn1", "S1"])
    with torch.no_grad():
        feature = fronts[0](image)
        before = feature.clone()
        fronts[1](feature)
        backs[0](feature)
    assert torch.equal(feature, before)


def test_published_branch_leaves_four_of_five_branches_uncoded(networks):
    network, image = networks["segmentation"]
    front, _ = cut(network, PUBLISHED_BRANCH)
    with torch.no_grad():
        feature = front(image)
    coded, uncoded = parts(feature)
    assert len(uncoded) == 4
    assert first(feature) is coded
    assert all(torch.equal(a, b) for a, b in zip(join(coded, uncoded), feature))


def test_a_back_answers_at_the_size_of_the_image_it_is_told():
    network = deeplabv3_resnet50(0.125, 5).eval()
    image = torch.randn(1, 3, 72, 96)
    front, back = cut(network, "S3")
    with torch.no_grad():
        assert torch.equal(back(front(image), (72, 96)), network(image))


def test_a_back_that_answers_per_pixel_takes_its_feature_on_the_grid_of_the_front():
    feature = torch.arange(12.0).reshape(1, 1, 3, 4)
    placed = PixelBack().place(feature, (4, 3))
    assert placed.tolist() == [[[[0, 1, 2], [4, 5, 6], [8, 9, 10], [8, 9, 10]]]]
    assert torch.equal(PixelBack().place(feature, (3, 4)), feature)
    assert Back().place(feature, (2, 2)) is feature


def test_official_state_dicts_load_strictly():
    resnet50().load_state_dict(torchvision.models.resnet50(weights=None).state_dict(), strict=True)
    official = torchvision.models.segmentation.deeplabv3_resnet50(weights=None, weights_backbone=None, aux_loss=True)
    deeplabv3_resnet50().load_state_dict(official.state_dict(), strict=True)


def test_full_width_equals_torchvision():
    official = torchvision.models.segmentation.deeplabv3_resnet50(
        weights=None, weights_backbone=None, aux_loss=True).eval()
    ours = deeplabv3_resnet50().eval()
    ours.load_state_dict(official.state_dict())
    image = torch.randn(1, 3, 65, 65)
    with torch.no_grad():
        assert torch.equal(ours(image), official(image)["out"])


def test_unknown_split_point_lists_the_valid_ones(networks):
    with pytest.raises(SpicError, match=r"unknown split point 'S9'.*S1, S2, S3, US1, US2, conv1"):
        cut(networks["classification"][0], "S9")
