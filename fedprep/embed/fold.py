"""Batch normalisation folded into the convolution before it: the same function of a picture, computed sooner.

A trained model normalises with fixed numbers, so `bn(conv(x))` is one convolution with other weights. Folded,
activations pass through memory once less in each layer, which is a quarter of a mobile network's time on a
processor. Outputs move by the rounding of float32.

Reference: Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference, CVPR 2018, section 3.2, equation 14.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from fedprep.embed.timm_weights import import_timm

__all__ = ["fold_batch_norm"]


def fold_batch_norm(model: Any) -> int:
    """Folds in place each batch normalisation that alone reads a convolution; returns how many.

    What reads what is taken from a trace of the model, not from the order of its attributes. A model that
    cannot be traced (its way depends on what it is given) keeps all of its layers, and so does a convolution
    that makes its weights anew at each call (weight standardisation).

    Args:
        model: a model of timm in `eval` mode, float32.
    """
    from torch import fx, nn
    from torch.nn.utils import fuse_conv_bn_eval

    layers = import_timm().layers
    convolutions = (nn.Conv2d, layers.Conv2dSame)
    norms = (nn.BatchNorm2d, layers.BatchNormAct2d)

    class Tracer(fx.Tracer):
        def is_leaf_module(self, module: nn.Module, path: str) -> bool:
            return isinstance(module, nn.Conv2d | nn.BatchNorm2d) or super().is_leaf_module(
                module, path
            )

    try:
        nodes = [node for node in Tracer().trace(model).nodes if node.op == "call_module"]
    except Exception:  # whatever a model does with a tensor that has no values yet
        return 0
    modules = dict(model.named_modules())
    calls = Counter(id(modules[str(node.target)]) for node in nodes)
    folded = 0
    for node in nodes:
        norm, path = modules[str(node.target)], str(node.target)
        if type(norm) not in norms or norm.running_mean is None or norm.training:
            continue
        before = node.args[0]
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) > 1:
            continue
        conv = modules[str(before.target)]
        if type(conv) not in convolutions or max(calls[id(conv)], calls[id(norm)]) > 1:
            continue
        model.set_submodule(str(before.target), fuse_conv_bn_eval(conv, norm))
        # timm's normalisation brings its activation along; what it drops, it drops in training alone.
        model.set_submodule(path, getattr(norm, "act", nn.Identity()))
        folded += 1
    return folded
