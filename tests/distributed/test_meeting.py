"""How processes meet: agreements, gathering in the order of the pieces, sums."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from distributed import meetings
from distributed.process_pool import Pool
from torch import nn

from contrastive_cli.core.errors import UsageError
from contrastive_cli.core.launched import Place, place
from contrastive_cli.engine.distributed import agree, from_first, gather_pieces, largest, of_all
from contrastive_cli.engine.running_statistics import in_order


def test_agree__all_go_on_with_what_the_first_one_says(pool: Pool) -> None:
    for rank, answer in enumerate(pool.run(meetings.decide, 3)):
        assert answer["agreed"] == 7
        assert answer["largest"] == 2
        assert answer["all"] == [{"rank": 0}, {"rank": 1}, {"rank": 2}]
        assert answer["first"] == ("from", 0)
        assert answer["made"] == ([1] if rank == 0 else []), "the first one is alone while it makes it"


def test_agree__one_process_meets_nobody() -> None:
    tensors = [torch.ones(2)]
    assert (agree(3), largest(4), of_all("x"), from_first(lambda: 5)) == (3, 4, ["x"], 5)
    assert gather_pieces(tensors, [2])[0] is tensors[0]


@pytest.mark.parametrize(("pieces", "dtype"), [(6, "float32"), (4, "bfloat16"), (5, "int64"), (3, "bool")])
def test_gather_pieces__in_the_order_of_the_pieces(pool: Pool, pieces: int, dtype: str) -> None:
    for size in (2, 3):
        for gathered in pool.run(meetings.gather, size, pieces=pieces, dtype=dtype):
            assert [len(tensor) for tensor in gathered] == list(range(1, pieces + 1))
            for piece, tensor in enumerate(gathered):
                assert (tensor == (bool(piece) if dtype == "bool" else piece)).all()


@pytest.mark.parametrize("bucket_bytes", [1, 60, 10**9])
def test_sum_in_buckets__every_tensor_becomes_its_sum(pool: Pool, bucket_bytes: int) -> None:
    for tensors in pool.run(meetings.add, 3, bucket_bytes=bucket_bytes):
        assert [tensor.shape for tensor in tensors] == [(3,), (2, 5), (1,), (4, 4, 2), (3, 2, 4, 4), (2,)]
        assert all((tensor == 6).all() for tensor in tensors)


@pytest.mark.parametrize("size", [2, 3])
def test_summed__sends_the_bytes_that_the_page_says(pool: Pool, size: int) -> None:
    pieces, numbers = 6, 1000
    for seen in pool.run(meetings.bytes_of_gradients, size, pieces=pieces, numbers=numbers, reduction="ordered"):
        gathered = pieces * 4 * numbers + pieces  # and a byte that says that there is one
        assert seen == {"gathered": gathered, "added": 0}
    for seen in pool.run(meetings.bytes_of_gradients, size, pieces=pieces, numbers=numbers, reduction="fast"):
        assert seen == {"gathered": size, "added": 4 * numbers}


@pytest.mark.parametrize("size", [1, 2, 3])
def test_dealt__every_piece_once(pool: Pool, size: int) -> None:
    own = pool.run(meetings.dealt_pieces, size, batch_size=26, micro_batch_size=5)
    bounds = sorted(bound for each in own for bound in each)
    assert len(bounds) == 6
    assert [start for start, _ in bounds] == [0, *(stop for _, stop in bounds[:-1])]
    assert bounds[-1][1] == 26


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, Place()),
        ({"RANK": "1", "WORLD_SIZE": "4"}, Place()),  # no address: no launcher
        (
            {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "h"},
            Place(rank=3, size=4, local_rank=1, local_size=2),
        ),
        ({"RANK": "4", "WORLD_SIZE": "4", "MASTER_ADDR": "h"}, None),
        ({"RANK": "x", "WORLD_SIZE": "4", "MASTER_ADDR": "h"}, None),
    ],
)
def test_place__is_what_the_launcher_says(
    given: dict[str, str], expected: Place | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    if "MASTER_ADDR" in given:
        monkeypatch.setenv("MASTER_PORT", "1")
    if expected is None:
        with pytest.raises(UsageError, match="names no process"):
            place()
    else:
        assert place() == expected


@pytest.mark.parametrize("momentum", [0.1, 0.37, None])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_in_order__moves_the_statistics_as_torch_does(momentum: float | None, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    pieces = [torch.randn(6, 9, 4, 4, generator=generator).mul(3).add(0.7).to(dtype) for _ in range(4)]
    ours, theirs = (nn.Sequential(nn.BatchNorm2d(9, momentum=momentum)).train() for _ in range(2))
    for piece in pieces:
        theirs(piece)
    with in_order(ours, pieces=4, ordered=True) as piece_done:  # type: ignore[arg-type]
        for piece in pieces:
            ours(piece)
            piece_done()
    for name, value in theirs.state_dict().items():
        found = ours.state_dict()[name]
        torch.testing.assert_close(found, value)
        # A fixed momentum is what layers have, and its arithmetic is known of the kernel for these processors.
        if momentum is not None and torch.backends.cpu.get_cpu_capability().startswith("AVX"):
            assert torch.equal(found, value), name
    assert theirs[0].momentum == ours[0].momentum
    assert not ours[0]._forward_hooks


def test_in_order__an_error_leaves_the_layers_as_they_were() -> None:
    method = nn.Sequential(nn.BatchNorm1d(3)).train()
    before = {name: value.clone() for name, value in method.state_dict().items()}

    def fail() -> None:
        with in_order(method, pieces=2, ordered=True):  # type: ignore[arg-type]
            method(torch.randn(5, 3))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert method[0].momentum == 0.1
    for name, value in method.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
