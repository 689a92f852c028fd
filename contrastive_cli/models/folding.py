"""Batch norms in evaluation mode as part of the convolutions before them: the same function in fewer passes."""

from __future__ import annotations

import copy
import itertools
from typing import Any, TypeVar

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from contrastive_cli.core.types import Method
from contrastive_cli.models.encoder import encoder_of
from contrastive_cli.models.encoders import ENCODERS

Module = TypeVar("Module", bound=nn.Module)


def fold_batch_norms(module: Module) -> Module:
    """The module in which each batch norm that was registered right after a convolution is folded into it.

    Right for modules that call them in that order, as `resnet9` and torchvision's ResNets do.

    Args:
        module: In evaluation mode; not changed. What is not folded is shared with the result.
    """
    shared = {id(tensor): tensor for tensor in itertools.chain(module.parameters(), module.buffers())}
    folded = copy.deepcopy(module, shared)  # modules of its own, which hold the same tensors
    for parent in list(folded.modules()):
        children = list(parent.named_children())
        for (_, first), (name, second) in itertools.pairwise(children):
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                _fold(first, second)
                setattr(parent, name, nn.Identity())
    return folded


def folded_method(method: Method, encoder: str) -> Method:
    """The method with the batch norms of its encoder folded, where they are known to follow their convolutions.

    All else is shared with the method.
    """
    if encoder not in ENCODERS or not hasattr(method, "encoder"):
        return method
    own = encoder_of(method)
    shared: dict[int, Any] = {id(tensor): tensor for tensor in method.state_dict(keep_vars=True).values()}
    return copy.deepcopy(method, shared | {id(own): fold_batch_norms(own)})  # a copy that holds the folded encoder


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Give the convolution the weights that do both."""
    assert norm.running_mean is not None, "evaluation mode needs running statistics"
    assert norm.running_var is not None, "evaluation mode needs running statistics"
    statistics = norm.running_mean, norm.running_var
    convolution.weight, convolution.bias = fuse_conv_bn_weights(
        convolution.weight, convolution.bias, *statistics, norm.eps, norm.weight, norm.bias
    )
