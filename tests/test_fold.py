"""Batch normalisation folded into convolutions: the same function of a picture, and only where it is."""

from __future__ import annotations

from typing import Any

import pytest

from fedprep.embed.fold import fold_batch_norm
from fedprep.embed.timm_weights import import_timm
from fedprep.embed.torch_setup import import_torch

torch = import_torch("image")
timm = import_timm()


def trained(model: Any) -> Any:
    """The model as if it had been trained: no normalisation is one of zeros and ones."""
    draw = torch.Generator().manual_seed(0)
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.3, generator=draw)
            layer.running_var.uniform_(0.5, 2, generator=draw)
            layer.weight.data.uniform_(0.5, 1.5, generator=draw)
            layer.bias.data.normal_(0, 0.3, generator=draw)
    return model.eval()


def folded_alike(model: Any, size: int) -> int:
    x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        before = model(x)
        n = fold_batch_norm(model)
        torch.testing.assert_close(model(x), before, rtol=1e-4, atol=1e-5)
    return n


@pytest.mark.parametrize(
    ("name", "n_folded"), [("test_efficientnet", 13), ("test_resnet", 15), ("test_vit", 0)]
)
def test_a_model_of_timm_gives_what_it_gave(name: str, n_folded: int) -> None:
    torch.set_num_threads(1)
    model = trained(timm.create_model(name, pretrained=False, num_classes=0))
    n_norms = sum(isinstance(layer, torch.nn.BatchNorm2d) for layer in model.modules())
    assert folded_alike(model, model.pretrained_cfg["input_size"][-1]) == n_folded
    left = sum(isinstance(layer, torch.nn.BatchNorm2d) for layer in model.modules())
    assert left == n_norms - n_folded


class Block(torch.nn.Module):
    def __init__(self, way: str) -> None:
        super().__init__()
        kind = timm.layers.StdConv2d if way == "standardised" else torch.nn.Conv2d
        self.way = way
        self.norm = torch.nn.BatchNorm2d(3)  # stands before the convolution that it reads
        self.conv = kind(3, 3, 3, padding=1, bias=way == "biased")

    def forward(self, x: Any) -> Any:
        if self.way == "undecided" and x.sum() > 0:
            return x
        made = self.conv(x)
        if self.way == "read twice":
            return self.norm(made) + made
        if self.way == "called twice":
            return self.norm(self.conv(made))
        if self.way == "norm first":
            return self.conv(self.norm(x))
        return self.norm(made)


@pytest.mark.parametrize(
    ("way", "n_folded"),
    [
        ("plain", 1),
        ("biased", 1),
        ("read twice", 0),
        ("called twice", 0),
        ("norm first", 0),
        ("standardised", 0),
        ("undecided", 0),
    ],
)
def test_only_a_normalisation_that_alone_reads_a_convolution_is_folded(
    way: str, n_folded: int
) -> None:
    torch.manual_seed(0)
    assert folded_alike(trained(Block(way)), 8) == n_folded
