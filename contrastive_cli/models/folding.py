"""Batch norms in evaluation mode as part of the convolutions before them: the same function in fewer passes."""

from __future__ import annotations

import copy
import itertools
from typing import TypeVar

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

Module = TypeVar("Module", bound=nn.Module)


def fold_batch_norms(module: Module) -> Module:
    """A copy in which each batch norm that was registered right after a convolution is folded into it.

    Right for modules that call them in that order, as `resnet9` and torchvision's ResNets do.

    Args:
        module: In evaluation mode; not changed.
    """
    folded = copy.deepcopy(module)
    for parent in list(folded.modules()):
        children = list(parent.named_children())
        for (name, first), (next_name, second) in itertools.pairwise(children):
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                setattr(parent, name, fuse_conv_bn_eval(first, second))
                setattr(parent, next_name, nn.Identity())
    return folded
