"""The cut by the graph: nothing is lost, nothing is copied, nothing changes, for networks nobody prepared."""

import copy
from functools import cache, partial

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.swin_transformer import SwinTransformer
from torchvision.models.vision_transformer import VisionTransformer

from spic.errors import SpicError
from spic.networks.cut import answers, cut, cut_many, single, single_tensor_cuts
from spic.networks.graph import trace

def named(name, **options):
    return partial(torchvision.models.get_model, name, weights=None, num_classes=7, **options)


SMALL = {  # torchvision's own families, few and narrow where they can be
    "resnet18": (named("resnet18"), 32),
    "mobilenet_v3_small": (named("mobilenet_v3_small"), 32),
    "shufflenet_v2_x0_5": (named("shufflenet_v2_x0_5"), 32),
    "regnet_y_400mf": (named("regnet_y_400mf"), 32),
    "convnext": (partial(ConvNeXt, [CNBlockConfig(8, 16, 2), CNBlockConfig(16, None, 2)], num_classes=7), 32),
    "swin": (partial(SwinTransformer, [4, 4], 8, [2, 2], [2, 4], [4, 4], num_classes=7), 32),
    "vit": (partial(VisionTransformer, 32, 8, 2, 2, 16, 32, num_classes=7), 32),
    "deeplabv3": (named("deeplabv3_mobilenet_v3_large", weights_backbone=None), 33),
    "lraspp": (named("lraspp_mobilenet_v3_large", weights_backbone=None), 32),
}
MOST_PLACES = 8


@cache
def build(name):
    torch.manual_seed(0)
    return SMALL[name][0]().eval()


def picture(name, batch=1):
    return torch.randn(batch, 3, SMALL[name][1], SMALL[name][1], generator=torch.Generator().manual_seed(1))


def answer(network, image):
    with torch.no_grad():
        given = network(image)
    return given["out"] if isinstance(given, dict) else given


def check(network, image, names):
    """Stages, backs and frontiers agree with the network, and no half writes into what it is given."""
    expected, feature = answer(network, image.clone()), image
    stages, backs, frontiers = cut_many(network, names, image)
    with torch.no_grad():
        for stage, back, frontier in zip(stages, backs, frontiers):
            feature = stage(feature)
            kept = copy.deepcopy(feature)
            assert torch.equal(back(feature), expected), frontier
            for have, before, crossing in zip(*((t,) if torch.is_tensor(t) else t for t in (feature, kept)), frontier.tensors):
                assert torch.equal(have, before), frontier
                assert tuple(have.shape[1:]) == crossing.shape and have.dtype == crossing.dtype
    return stages, backs, frontiers


@pytest.mark.parametrize("name", SMALL)
def test_back_of_front_is_the_network_where_one_tensor_crosses(name):
    network, image = build(name), picture(name, 2)
    traced = trace(network, image[:1])
    places = single_tensor_cuts(traced, image[:1])
    assert len(places) > 5
    some = {place.name: place for place in places[::-(-len(places) // MOST_PLACES)]}
    expected, feature = answer(network, image), image
    with torch.no_grad():
        for stage, back, frontier in zip(*cut_many(traced, list(some), image[:1])):
            feature = stage(feature)
            kept = feature.clone()
            assert torch.equal(back(feature), expected), frontier
            assert torch.equal(feature, kept), frontier
            assert single(frontier).shape == some[frontier.after].shape == tuple(feature.shape[1:])


@pytest.mark.parametrize("name,after", [("resnet18", "layer2.0"), ("swin", "features.1"), ("vit", "conv_proj")])
def test_each_parameter_lives_in_exactly_one_half_and_is_the_networks_own(name, after):
    network = build(name)
    front, back, _ = cut(network, after, picture(name))
    edge, cloud = ({id(p) for p in half.parameters()} for half in (front, back))
    assert edge | cloud == {id(p) for p in network.parameters()}
    assert edge and cloud and not edge & cloud


def test_names_are_those_of_torchvision_and_of_modules():
    network, image = build("resnet18"), picture("resnet18", 2)
    node, module = (cut(network, name, image)[0] for name in ("layer3.1.relu_1", "layer3"))
    with torch.no_grad():
        assert torch.equal(node(image), module(image))
    _, names = torchvision.models.feature_extraction.get_graph_node_names(network, suppress_diff_warning=True)
    assert all(name in names for name in ("layer3.1.relu_1", "layer1.0.add"))
    cut(network, "layer1.0.add", image)


def test_a_module_whose_name_ends_in_a_number_keeps_its_name():
    class Numbered(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv_1, self.conv_2, self.last = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 5, 1), nn.Conv2d(5, 1, 1)

        def forward(self, x):
            return self.last(self.conv_2(self.conv_1(x)))
    image = torch.randn(1, 3, 4, 4)
    assert [cut(Numbered(), name, image)[2].shapes for name in ("conv_1", "conv_2")] == [((4, 4, 4),), ((5, 4, 4),)]


# ---- a user's own network -----------------------------------------------------------------------------------------

class Own(nn.Module):
    """Residuals, chunks, in-place arithmetic, a module used twice, sizes taken from the input."""

    def __init__(self):
        super().__init__()
        self.first, self.left, self.right = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.relu, self.mix, self.last = nn.ReLU(inplace=True), nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 5)

    def forward(self, x):
        size = x.shape[-2:]
        y = self.first(x)
        y += 1
        a, b = self.relu(y).chunk(2, dim=1)
        z = torch.cat([self.left(a), self.right(b)], 1)
        z += y
        z = self.relu(self.mix(z)) + z
        z = F.interpolate(F.avg_pool2d(z, 2), size=size)
        return self.last(z.flatten(2).view(x.shape[0], 8, size[0] * size[1]).mean(-1))


@pytest.mark.parametrize("after", ["first", "add", "relu", "chunk", "left", "cat", "add_1", "mix", "relu_1", "add_2",
                                   "avg_pool2d", "interpolate", "flatten", "view", "mean"])
def test_a_users_own_network_wherever_it_is_cut(after):
    torch.manual_seed(0)
    network, image = Own().eval(), torch.randn(3, 3, 8, 8)
    check(network, image, [after])


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_a_back_serves_any_batch_whatever_the_example(batch):
    network = build("shufflenet_v2_x0_5")
    _, back, _ = cut(network, "stage2.0.cat", picture("shufflenet_v2_x0_5"))
    front, _, _ = cut(network, "stage2.0.cat", picture("shufflenet_v2_x0_5", 2))
    image = picture("shufflenet_v2_x0_5", batch)
    with torch.no_grad():
        assert torch.equal(back(front(image)), network(image))


def test_a_view_at_the_beginning_of_a_half_does_not_let_it_overwrite_its_input():
    class Viewing(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.relu, self.fc = nn.Conv2d(3, 4, 1), nn.ReLU(inplace=True), nn.Linear(16, 2)

        def forward(self, x):
            return self.fc(self.relu(self.conv(x).permute(0, 1, 3, 2).flatten(1)))
    check(Viewing(), torch.randn(2, 3, 2, 2), ["conv"])


def test_what_the_front_overwrites_is_saved_for_the_back():
    class Late(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.second, self.last = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(8, 2, 1)

        def forward(self, x):
            y = self.conv(x)
            twice = y * 2
            return self.last(torch.cat([self.second(F.relu_(y)), twice], 1))
    _, _, (frontier,) = check(Late(), torch.randn(2, 3, 4, 4), ["second"])
    assert len(frontier.tensors) == 2


def test_an_image_is_not_overwritten_either():
    class Shifting(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.last = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)

        def forward(self, x):
            x -= 0.5
            return self.last(self.conv(x))
    image = torch.ones(1, 3, 2, 2)
    cut(Shifting(), "conv", image)[0](image)
    assert image.eq(1).all()


def test_the_network_itself_stays_as_it_was():
    network = build("resnet18")
    before, image = {name: id(module) for name, module in network.named_modules()}, torch.randn(2, 3, 64, 64)
    expected = answer(network, image)
    cut_many(network, ["bn1", "layer2"], image)
    assert {name: id(module) for name, module in network.named_modules()} == before
    assert network.relu.inplace and torch.equal(answer(network, image), expected)


def test_several_nodes_can_be_cut_at_once():
    network, image = build("deeplabv3"), picture("deeplabv3")
    branches = (*(f"classifier.0.convs.{i}" for i in range(4)), "classifier.0.convs.4.3")
    _, _, (frontier,) = check(network, image, [branches])
    assert frontier.shapes == ((256, 3, 3),) * 4 + ((256, 1, 1),)


def test_cuts_are_given_back_in_the_order_of_the_network():
    _, _, frontiers = check(build("resnet18"), picture("resnet18"), ["layer4.0", "conv1", "layer2", "layer2.1"])
    assert [frontier.after for frontier in frontiers][0] == "conv1"
    assert [frontier.after for frontier in frontiers][-1] == "layer4.0"


def test_a_half_survives_copying():
    network, image = build("deeplabv3"), picture("deeplabv3")
    front, back, _ = cut(network, "backbone.12", image)
    with torch.no_grad():
        assert torch.equal(copy.deepcopy(back)(copy.deepcopy(front)(image)), answer(network, image))
    assert copy.deepcopy(back).image_size == (33, 33)


# ---- answers for training -----------------------------------------------------------------------------------------

def test_answers_of_a_classifier_are_its_logits_and_what_the_last_layer_saw():
    network, image = build("resnet18"), picture("resnet18", 2)
    front, back, _ = cut(network, "layer3", image)
    with torch.no_grad():
        logits, hidden = answers(back)(front(image))
        assert torch.equal(logits, network(image))
        assert torch.equal(network.fc(hidden), logits)


def test_answers_of_deeplab_come_before_the_resizing_and_serve_a_window():
    network, image = build("deeplabv3"), picture("deeplabv3", 2)
    front, back, _ = cut(network, "backbone.12", image)
    with torch.no_grad():
        logits, hidden = answers(back)(front(image))
        assert torch.equal(network.classifier[4](hidden), logits)
        assert torch.equal(F.interpolate(logits, (33, 33), mode="bilinear", align_corners=False), answer(network, image))
        assert answers(back)(torch.randn(1, 112, 5, 5))[0].shape == (1, 7, 5, 5)


def test_answers_behind_the_last_layer_have_nothing_hidden():
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Conv2d(3, 4, 1)

        def forward(self, x):
            return self.fc(x).mean((2, 3))
    _, back, _ = cut(Plain(), "fc", torch.zeros(1, 3, 4, 4))
    logits, hidden = answers(back)(torch.ones(2, 4, 4, 4))
    assert hidden is None and logits.shape == (2, 4)


# ---- refusals ------------------------------------------------------------------------------------------------------

class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 2, 1)

    def forward(self, x):
        return self.last(self.conv(self.conv(x).relu()))


class Deciding(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Listing(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return [self.conv(x), x]


class Naming(Listing):
    def forward(self, x):
        return {"boxes": self.conv(x), "scores": x}


class Measuring(Listing):
    def forward(self, x):
        most = x.max().item()
        return self.conv(x * most).relu() * most


class Pair(Listing):
    def forward(self, x, y):
        return self.conv(x) + y


IMAGE = torch.zeros(1, 3, 8, 8)


@pytest.mark.parametrize("network,after,message", [
    (Twice(), "relu", "conv would be used on both sides"),
    (Deciding(), "x", "Deciding cannot be traced.*control flow.*test_cut.py, line"),
    (Listing(), "conv", "Listing returns a list of 2"),
    (Naming(), "conv", "returns a dict of 'boxes', 'scores'"),
    (Pair(), "conv", "takes 2 inputs"),
    (Own(), "relu_2", "unknown cut 'relu_2'; the nearest names are: relu"),
    (Own(), "last", "nothing lies behind it"),
    (Own(), "x", "nothing lies before it"),
])
def test_what_cannot_be_cut_is_one_line(network, after, message):
    with pytest.raises(SpicError, match=message) as raised:
        cut(network, after, IMAGE)
    assert "\n" not in str(raised.value)


def test_an_auxiliary_head_is_no_place_to_cut():
    network = named("deeplabv3_mobilenet_v3_large", weights_backbone=None, aux_loss=True)()
    with pytest.raises(SpicError, match="does not lead to the network's answer"):
        cut(network, "aux_classifier.4", picture("deeplabv3"))


def test_several_tensors_are_named_where_one_is_needed():
    frontier = cut(build("resnet18"), "layer2.0.conv1", picture("resnet18"))[2]
    with pytest.raises(SpicError, match="2 tensors cross .layer1 64x8x8, layer2.0.conv1 128x4x4."):
        single(frontier)


def test_parallel_branches_cannot_follow_each_other():
    names = ["classifier.0.convs.0", "classifier.0.convs.1"]
    with pytest.raises(SpicError, match="parallel branches"):
        cut_many(build("deeplabv3"), names, picture("deeplabv3"))


def test_a_number_taken_from_the_picture_does_not_become_a_constant():
    with pytest.raises(SpicError, match="computed from the picture"):
        cut(Measuring(), "conv", torch.rand(1, 3, 4, 4))


def test_part_of_a_network_that_cannot_be_followed_becomes_one_node():
    class Holding(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.decide, self.last = nn.Conv2d(3, 3, 1), Deciding(), nn.Conv2d(3, 2, 1)

        def forward(self, x):
            return self.last(self.decide(self.conv(x)))
    check(Holding(), torch.randn(2, 3, 4, 4), ["conv", "decide"])


def test_a_network_is_cut_at_the_size_it_was_traced_for():
    traced = trace(build("resnet18"), picture("resnet18"))
    with pytest.raises(SpicError, match="traced for pictures of"):
        cut(traced, "layer1", torch.zeros(1, 3, 64, 64))
