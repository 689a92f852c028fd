"""Tables on paper for `benchmarks.scaling`: what 8, 64 and 512 GPUs would do, from assumed rates that have sources.

Counted here, on models without weights: operations, weights and statistics. Assumed: everything of `ASSUMED` and
`link_of`, which nobody measured for this program.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.scaling_model import Link, Work, efficiency, predict
from contrastive_cli.core.types import ImageFacts
from contrastive_cli.methods.simclr import SimCLR, SimCLRConfig
from contrastive_cli.models.encoders import EncoderConfig, build_encoder

SIZE = 224
MODELS = {"ResNet-50": "resnet50", "ViT-B/16": "timm/vit_base_patch16_224"}
GPUS = (8, 64, 512)
BATCHES = (4096, 16384, 65536)
MOST_IMAGES = 128  # of a micro-batch
GPUS_OF_A_MACHINE = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """One H100 SXM. What is not from NVIDIA's data sheet was measured by others, elsewhere.

    Attributes:
        tensor_rate: bf16 operations a second, dense, of the data sheet.
        plain_rate: fp32 operations a second, of the data sheet: the loss computes in fp32.
        memory_rate: Bytes a second of a copy, Azure's measurement of an ND H100 v5.
        resnet50_rate: Images trained a second: 2,600 of an A100 (timm, issue 1491) times 2, which is what Lambda says
            of vision models.
        vit_share: Of `tensor_rate` that training a ViT reaches: that of a ViT-S, compiled, in the benchmarks of
            nvSubquadratic.
        loss_passes: How often the loss goes over a matrix of similarities in memory (read off `losses.contrastive`).
        optimizer_passes: How often AdamW goes over 28 bytes a weight (four read, three written, by several kernels).
    """

    tensor_rate: float = 989e12
    plain_rate: float = 67e12
    memory_rate: float = 2.9e12
    resnet50_rate: float = 5200.0
    vit_share: float = 0.22
    loss_passes: int = 9
    optimizer_passes: int = 3


ASSUMED = Gpu()


def link_of(gpus: int) -> Link:
    """Messages of NCCL among H100s.

    In a machine: 183 GB/s of an all-gather (Voltage Park's benchmarks). Between machines: 59 GB/s of a sum of 33 MB and
    123 us of a sum of two numbers, on 16 GPUs of two machines (a result file of nccl-tests for GCP's a3-mega), which is
    4 us for each of the 30 hops of a ring, or 31 us for each of four doublings, and is taken for half of that within a
    machine. A message by gloo over TCP is taken as 30 us.
    """
    if gpus <= GPUS_OF_A_MACHINE:
        return Link(hop=4e-6, gather_rate=183e9, doubling=15e-6, sum_rate=183e9, word=30e-6)
    return Link(hop=4e-6, gather_rate=59e9, doubling=31e-6, sum_rate=59e9, word=30e-6)


@dataclass(frozen=True, kw_only=True, slots=True)
class Counted:
    """What a SimCLR model is, counted without computing it.

    Attributes:
        operations: Of the forward pass of a view; a multiplication and an addition are two.
        weights: That are trained.
        statistics: Numbers that batch norm keeps.
        row: Numbers of a projection.
    """

    operations: int
    weights: int
    statistics: int
    row: int


def counted(encoder: str) -> Counted:
    """A SimCLR model for pictures of 224 px."""
    with torch.device("meta"):
        net = build_encoder(EncoderConfig(name=encoder), channels=3, size=SIZE)
        method = SimCLR(SimCLRConfig(), encoder=net, images=ImageFacts(count=1, channels=3, size=SIZE)).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            row = method.project((torch.zeros(1, 2, 3, SIZE, SIZE),)).shape[-1]
    statistics_of = ("running_mean", "running_var")
    return Counted(
        operations=counter.get_total_flops() // 2,
        weights=sum(weight.numel() for weight in method.parameters()),
        statistics=sum(buffer.numel() for name, buffer in method.named_buffers() if name.endswith(statistics_of)),
        row=row,
    )


def work_on_gpu(name: str, model: Counted, gpu: Gpu = ASSUMED) -> Work:
    """What the parts of a step with two views would cost a GPU."""
    trained = gpu.resnet50_rate if name == "ResNet-50" else gpu.vit_share * gpu.tensor_rate / (3 * model.operations)
    return Work(
        look=2 / trained / 3,  # a pass forward is a third of one forward and backward
        learn=2 / trained,
        pair=6 * model.row / gpu.plain_rate + 4 * gpu.loss_passes / gpu.memory_rate,
        optimizer=28 * gpu.optimizer_passes * model.weights / gpu.memory_rate,
        views=2,
        row_bytes=4 * model.row,
        gradient_bytes=4 * model.weights,
        statistics_bytes=4 * model.statistics,
    )


def pieces_of(batch: int, gpus: int) -> int:
    """Micro-batches of at most `MOST_IMAGES`, equally many for each GPU."""
    return gpus * -(-batch // (gpus * MOST_IMAGES))


def print_paper(*, decoded: float) -> None:
    """The tables, in Markdown.

    Args:
        decoded: Photos that a core of this machine decodes in a second.
    """
    models = {name: counted(encoder) for name, encoder in MODELS.items()}
    works = {name: work_on_gpu(name, model) for name, model in models.items()}
    print(f"\nCounted, for SimCLR with two views of {SIZE} px:")
    for name, model in models.items():
        print(
            f"- {name}: {model.operations / 1e9:.1f} GFLOP a view forward, {model.weights / 1e6:.1f} M weights, "
            f"{4 * model.weights / 1e6:.0f} MB of gradients, {4 * model.statistics / 1e3:.0f} kB of statistics"
        )
    print(f"\nAssumed of a GPU: {ASSUMED}")
    for gpus in (GPUS_OF_A_MACHINE, GPUS_OF_A_MACHINE + 1):
        print(f"Assumed of the link of {gpus} GPUs{'' if gpus <= GPUS_OF_A_MACHINE else ' and more'}: {link_of(gpus)}")
    for name, work in works.items():
        print(f"Follows: {name} trains on {work.views / work.learn:,.0f} views/s without anybody else")
    print("\n" + "\n".join(table(works)))
    print("\n" + "\n".join(limits(works)))
    print("\n" + "\n".join(data(works, decoded=decoded)))


def table(works: dict[str, Work]) -> list[str]:
    """Step times and efficiencies, as the program is and as it could be."""
    lines = [
        "| model | GPUs | batch | micro-batches | step | passes | loss | gathers | gradients | agreements "
        "| efficiency | with a ring of chunks | and overlap |",
        "|" + "---|" * 13,
    ]
    for name, work in works.items():
        for gpus in GPUS:
            for batch in BATCHES:
                pieces = pieces_of(batch, gpus)
                link = link_of(gpus)
                step = predict(work, link, processes=gpus, batch=batch, pieces=pieces)
                parts = (step.look + step.learn, step.loss, step.gather + step.statistics, step.gradients)
                cells = [f"{1000 * seconds:,.1f}" for seconds in (*parts, step.agreements)]
                share = functools.partial(efficiency, work, link, processes=gpus, batch=batch, pieces=pieces)
                gains = [
                    f"{100 * value:.0f} %" for value in (share(), share(ring=True), share(ring=True, overlap=True))
                ]
                first = [name, str(gpus), f"{batch:,}", f"{pieces // gpus} x {batch // pieces}"]
                lines.append("| " + " | ".join([*first, f"{1000 * step.total:,.0f} ms", *cells, *gains]) + " |")
    return lines


def limits(works: dict[str, Work]) -> list[str]:
    """From which batch on the loss takes as long as both passes, and what a gathering of wide rows takes."""
    lines = ["The loss of the whole batch takes as long as both passes at"]
    for name, work in works.items():
        passes = (work.look + work.learn) / (work.pair * work.views**2)
        each = ", ".join(f"{passes / gpus:,.0f} images on {gpus} GPUs" for gpus in GPUS)
        lines.append(f"- {name}: {each}; in a ring of chunks at {passes:,.0f} on any number")
    batch, wide = BATCHES[-1], 8192
    size = batch * 2 * wide * 4
    seconds = link_of(GPUS[-1]).gather(size, GPUS[-1])
    lines.append(
        f"Rows of {wide} numbers (the projector of VICReg) are {size / 1e9:.1f} GB on every GPU at a batch of "
        f"{batch:,}, and take {1000 * seconds:.0f} ms to gather on {GPUS[-1]}; rows of 128 are {size / 64 / 1e6:.0f} MB"
    )
    return lines


def data(works: dict[str, Work], *, decoded: float) -> list[str]:
    """What feeding one GPU asks of its machine."""
    lines = [
        "| model, 8 GPUs, batch 4,096 | images/s a GPU | cache read a GPU | cores a GPU, if every epoch decoded |",
        "|---|---|---|---|",
    ]
    for name, work in works.items():
        gpus, batch = GPUS[0], BATCHES[0]
        step = predict(work, link_of(gpus), processes=gpus, batch=batch, pieces=pieces_of(batch, gpus))
        rate = batch / gpus / step.total
        read = 2 * rate * 3 * SIZE**2  # both passes gather the pixels
        lines.append(f"| {name} | {rate:,.0f} | {read / 1e6:,.0f} MB/s | {rate / decoded:.1f} |")
    minutes = 1_281_167 / decoded / 60
    lines.append(
        f"\nA core of this machine decodes {decoded:.0f} photos of 1200 x 900 to {SIZE} px in a second, so ImageNet's "
        f"1,281,167 would take {minutes:,.0f} minutes of one core, once, and {1_281_167 * 3 * SIZE**2 / 1e9:.0f} GB"
    )
    return lines
