from __future__ import annotations

import contextlib
import copy
import math
from typing import Any

import pytest
import torch
from method_steps import check_resumption, take_steps
from method_values import known_views
from torch import Tensor, nn

from contrastive_cli.core.config import build
from contrastive_cli.core.errors import UsageError
from contrastive_cli.core.types import Batch, Contrastive, FromNeighbors, ImageFacts, Progress
from contrastive_cli.engine.accumulate import backward
from contrastive_cli.engine.optim import OptimConfig, build_optimizer
from contrastive_cli.methods.byol import BYOL, BYOLConfig, mean_target_loss, pair_means, quarters, symmetric_loss
from contrastive_cli.models.encoders import EncoderConfig, build_encoder

START = Progress(step=0, total_steps=8)


def make(**settings: Any) -> BYOL:
    torch.manual_seed(0)
    encoder = build_encoder(EncoderConfig(name="resnet9", width=4, embedding_dim=None), channels=1, size=8)
    widths = {"projector_hidden": 16, "projector_dim": 8, "predictor_hidden": 12}
    return BYOL(
        build(BYOLConfig, {**widths, **settings}), encoder=encoder, images=ImageFacts(count=9, channels=1, size=8)
    ).train()


def make_batch(num_views: int = 2, num_images: int = 6, seed: int = 1) -> Batch:
    views = torch.randn(num_views, num_images, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    return Batch(views=(views,), indices=torch.arange(num_images))


def numbered_batch(step: int) -> Batch:
    return make_batch(seed=step)


def random_vectors(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def unit(vector: list[float]) -> list[float]:
    length = math.sqrt(sum(value * value for value in vector))
    return [value / length for value in vector]


def slow_loss(predictions: Tensor, targets: Tensor, weight: float) -> list[float]:
    """The definition in plain numbers, image by image."""
    losses = []
    for image in range(predictions.shape[1]):
        total = 0.0
        for view in (0, 1):
            target = unit(targets[1 - view, image].tolist())
            if len(targets) > 2:
                neighbor = unit(targets[2, image].tolist())
                target = unit([(1 - weight) * a + weight * b for a, b in zip(target, neighbor, strict=True)])
            prediction = unit(predictions[view, image].tolist())
            total += 2 - 2 * sum(a * b for a, b in zip(prediction, target, strict=True))
        losses.append(total)
    return losses


@pytest.mark.parametrize(("num_targets", "weight"), [(2, 0.0), (3, 0.0), (3, 0.3), (3, 1.0)])
def test_symmetric_loss__matches_the_definition(num_targets: int, weight: float) -> None:
    predictions, targets = random_vectors(2, 5, 7), random_vectors(num_targets, 5, 7, seed=1)
    found = symmetric_loss(predictions, targets, neighbor_weight=weight)
    assert found.tolist() == pytest.approx(slow_loss(predictions, targets, weight), rel=1e-5)


def test_symmetric_loss__equals_lightly_up_to_its_scale() -> None:
    from lightly.loss import NegativeCosineSimilarity

    predictions, targets = random_vectors(2, 5, 7), random_vectors(2, 5, 7, seed=1)
    theirs = NegativeCosineSimilarity()
    both = theirs(predictions[0], targets[1]) + theirs(predictions[1], targets[0])  # the sum of minus the cosines
    torch.testing.assert_close(symmetric_loss(predictions, targets).mean(), 4 + 2 * both)


def test_symmetric_loss__range_and_scale() -> None:
    z = random_vectors(2, 5, 7)
    crossed = z.flip(0)
    torch.testing.assert_close(symmetric_loss(z, 3 * crossed), torch.zeros(5), atol=1e-6, rtol=0)
    torch.testing.assert_close(symmetric_loss(z, -crossed), torch.full((5,), 8.0))
    # A neighbor of ten times the length has no more say than its weight.
    targets = torch.cat((crossed, random_vectors(1, 5, 7, seed=2)))
    longer = torch.cat((crossed, 10 * targets[2:]))
    torch.testing.assert_close(
        symmetric_loss(z, longer, neighbor_weight=0.4), symmetric_loss(z, targets, neighbor_weight=0.4)
    )


def test_mean_target_loss__known_value_of_three_views() -> None:
    """The plain mean of the others, not of their directions: that would be -0.948981473."""
    views = known_views()
    loss = mean_target_loss(views, views)
    assert (loss.mean().item() - 4) / 4 == pytest.approx(-0.949358349, abs=1e-6)
    pair = views[:2]
    assert (mean_target_loss(pair, pair).mean().item() - 4) / 4 == pytest.approx(-0.963373, abs=1e-6)


def test_mean_target_loss__of_two_views_is_byols() -> None:
    predictions, targets = random_vectors(2, 5, 7), random_vectors(2, 5, 7, seed=1)
    torch.testing.assert_close(mean_target_loss(predictions, targets), symmetric_loss(predictions, targets))


@pytest.mark.parametrize("num_targets", [2, 3, 5])
def test_mean_target_loss__slow_reference_and_lightly(num_targets: int) -> None:
    from lightly.loss import NegativeCosineSimilarity

    predictions, targets = random_vectors(5, 4, 7), random_vectors(num_targets, 4, 7, seed=1)
    theirs = 0.0
    for view in range(5):
        others = [targets[k] for k in range(num_targets) if k != view]
        theirs += NegativeCosineSimilarity()(predictions[view], torch.stack(others).mean(dim=0)).item() / 5
    assert mean_target_loss(predictions, targets).mean().item() == pytest.approx(4 + 4 * theirs, rel=1e-5)


def test_training_loss__fastsiam_predicts_the_mean_of_the_other_views() -> None:
    method, batch = make(targets="views", num_views=4, target="self"), make_batch(4)
    loss = method.training_loss(batch, START).loss
    with torch.no_grad():
        z = torch.stack([method.projector(method.encoder(view)) for view in batch.single_views])
        p = torch.stack([method.predictor(row) for row in z])
    torch.testing.assert_close(loss, mean_target_loss(p, z).mean())


def test_training_loss__small_views_predict_and_are_no_targets() -> None:
    method = make(targets="views", num_views=5, target_views=2)
    large, small = make_batch(2).views[0], torch.randn(3, 6, 1, 16, 16)
    reached = Batch(views=(large, small.requires_grad_()), indices=torch.arange(6))
    seen: list[tuple[int, ...]] = []
    method.target_encoder.register_forward_hook(lambda module, given, out: seen.append(tuple(given[0].shape[-2:])))
    method.training_loss(reached, START).loss.backward()
    assert seen == [(8, 8), (8, 8)]
    assert small.grad is not None
    assert small.grad.abs().max() > 0


def test_byol__target_self_has_no_second_network_and_stops_the_gradient() -> None:
    method, batch = make(target="self"), make_batch()
    assert not any(name.startswith("target_") for name in method.state_dict())
    before = copy.deepcopy(method.state_dict())
    method.after_step(START)
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())
    method.training_loss(batch, START).loss.backward()
    found = [weight.grad for weight in method.projector.parameters()]
    other = make(target="self")
    z = [other.projector(other.encoder(view)) for view in batch.single_views]
    p = torch.stack([other.predictor(row) for row in z])
    symmetric_loss(p, torch.stack([row.detach() for row in z])).mean().backward()
    for gradient, weight in zip(found, other.projector.parameters(), strict=True):
        assert gradient is not None
        assert weight.grad is not None
        torch.testing.assert_close(gradient, weight.grad)


def test_byol__target_self_with_a_neighbor_runs_it_through_the_network_itself() -> None:
    method = make(target="self", positives="mix", positive_weight=1.0)
    batch = make_batch(3)
    loss = method.training_loss(batch, START).loss
    with torch.no_grad():
        z = torch.stack([method.projector(method.encoder(view)) for view in batch.single_views])
        p = torch.stack([method.predictor(row) for row in z[:2]])
    torch.testing.assert_close(loss, symmetric_loss(p, z, neighbor_weight=1.0).mean())


def test_quarters__put_together_are_the_view() -> None:
    view = random_vectors(3, 2, 6, 8)
    top_left, top_right, bottom_left, bottom_right = quarters(view)
    joined = torch.cat([torch.cat([top_left, top_right], dim=3), torch.cat([bottom_left, bottom_right], dim=3)], dim=2)
    assert torch.equal(joined, view)
    assert quarters(random_vectors(3, 2, 7, 9)).shape == (4, 3, 2, 3, 4)


def test_pair_means__of_four_are_six() -> None:
    parts = random_vectors(4, 3, 5)
    expected = [(parts[a] + parts[b]) / 2 for a in range(4) for b in range(a + 1, 4)]
    torch.testing.assert_close(pair_means(parts), torch.stack(expected))


@pytest.mark.parametrize("target", ["average", "self"])
def test_training_loss__split_predicts_whole_views_from_pairs_of_quarters(target: str) -> None:
    method = make(split=True, target=target)
    views = torch.randn(2, 6, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    loss = method.training_loss(Batch(views=(views,), indices=torch.arange(6)), START).loss
    with torch.no_grad():  # the target is a copy at the start
        targets = torch.stack([method.projector(method.encoder(view)) for view in views])
        losses = []
        pairs = [
            pair_means(method.encoder(quarters(view).flatten(0, 1)).view(4, 6, -1)).flatten(0, 1) for view in views
        ]
        predictions = torch.stack([method.predictor(method.projector(rows)).view(6, 6, -1) for rows in pairs])
        for part in range(6):
            losses.append(symmetric_loss(predictions[:, part], targets).mean())
    torch.testing.assert_close(loss, torch.stack(losses).mean())
    assert method.parts_per_side == 2


def test_byol__no_gradient_reaches_the_target() -> None:
    method = make()
    target = [*method.target_encoder.parameters(), *method.target_projector.parameters()]
    assert not any(weight.requires_grad for weight in target)
    for weight in target:  # even if somebody lets it require one
        weight.requires_grad_(True)
    method.training_loss(make_batch(), START).loss.backward()
    assert all(weight.grad is None for weight in target)
    online = [*method.encoder.parameters(), *method.projector.parameters(), *method.predictor.parameters()]
    assert all(weight.grad is not None and weight.grad.abs().max() > 0 for weight in online)
    assert len(online) + len(target) == len(list(method.parameters()))


def test_byol__optimizer_holds_only_the_online_network() -> None:
    method = make()
    groups = build_optimizer(method, OptimConfig(), lr=1.0).param_groups
    held = {id(weight) for group in groups for weight in group["params"]}
    target = {id(weight) for name, weight in method.named_parameters() if name.startswith("target_")}
    assert target
    assert not held & target
    assert len(held) + len(target) == len(list(method.parameters()))


def test_byol__target_starts_as_a_copy_of_encoder_and_projector() -> None:
    method = make()
    for online, target in ((method.encoder, method.target_encoder), (method.projector, method.target_projector)):
        for key, value in online.state_dict().items():
            assert torch.equal(target.state_dict()[key], value)


@pytest.mark.parametrize(("step", "tau"), [(0, 0.9), (4, 0.95)])
def test_after_step__moves_the_target_by_tau_of_the_step(step: int, tau: float) -> None:
    method = make(tau_base=0.9)
    with torch.no_grad():
        for weight in (*method.encoder.parameters(), *method.projector.parameters()):
            weight.add_(1)
    before = copy.deepcopy(method)
    method.after_step(Progress(step=step, total_steps=8))
    for name, moved in method.named_parameters():
        first = before.get_parameter(name)
        if name.startswith("target_"):
            online = before.get_parameter(name.removeprefix("target_"))
            torch.testing.assert_close(moved, tau * first + (1 - tau) * online)
        else:
            assert torch.equal(moved, first)


def test_training_loss__batch_norm_sees_one_view_at_a_time() -> None:
    method, batch = make(), make_batch()
    loss = method.training_loss(batch, START).loss
    with torch.no_grad():
        predictions = [method.predictor(method.projector(method.encoder(view))) for view in batch.single_views]
        targets = [
            method.projector(method.encoder(view)) for view in batch.single_views
        ]  # the target is a copy at the start
    torch.testing.assert_close(loss, symmetric_loss(torch.stack(predictions), torch.stack(targets)).mean())


def test_training_loss__target_gathers_running_statistics_of_its_own() -> None:
    method, batch = make(positives="mix"), make_batch(3)
    with torch.no_grad():
        for weight in method.target_encoder.parameters():
            weight.mul_(1.5)
    reference = copy.deepcopy(method.target_encoder)
    method.training_loss(batch, START)
    method.after_step(START)
    for view in batch.single_views:
        reference(view)
    expected = dict(reference.named_buffers())
    for name, buffer in method.target_encoder.named_buffers():
        torch.testing.assert_close(buffer, expected[name])
        if name.endswith("num_batches_tracked"):
            assert buffer == 3
            assert method.encoder.get_buffer(name) == 2
    assert method.target_encoder.training


def test_training_loss__the_neighbor_goes_through_the_target_only() -> None:
    method, batch = make(positives="mix", positive_weight=0.3), make_batch(3)
    reached = Batch(views=(batch.views[0].clone().requires_grad_(True),), indices=batch.indices)
    method.training_loss(reached, START).loss.backward()
    assert reached.views[0].grad is not None
    assert reached.views[0].grad[:2].abs().max() > 0
    assert reached.views[0].grad[2].abs().max() == 0


def test_training_loss__mix_without_weight_is_augment() -> None:
    batch = make_batch(3)
    pair = Batch(views=(batch.views[0][:2],), indices=batch.indices)
    mixed = make(positives="mix", positive_weight=0.0).training_loss(batch, START).loss
    assert torch.equal(mixed, make().training_loss(pair, START).loss)
    weighted = make(positives="mix", positive_weight=0.5).training_loss(batch, START).loss
    assert not torch.isclose(mixed, weighted)


def test_training_loss__ignores_the_order_of_the_two_views() -> None:
    method, batch = make(), make_batch()
    swapped = Batch(views=(batch.views[0].flip(0),), indices=batch.indices)
    losses = [method.training_loss(each, START).loss for each in (batch, swapped)]
    torch.testing.assert_close(losses[0], losses[1])


def test_byol__views_of_neighbors() -> None:
    assert make().neighbor_views == (0, 0)
    assert make(positives="neighbor", neighbor_probability=0.2).neighbor_views == (0, 0.2)
    assert make(positives="mix").neighbor_views == (0, 0, 1)
    assert make(positives="mix").num_views == 3
    assert isinstance(make(), FromNeighbors)
    assert not isinstance(make(), Contrastive)


@pytest.mark.parametrize("micro_batch_size", [None, 3])
def test_byol__resumed_equals_uninterrupted_bit_for_bit(micro_batch_size: int | None) -> None:
    check_resumption(
        lambda: make(tau_base=0.9), batch_of=numbered_batch, stopped=3, steps=8, micro_batch_size=micro_batch_size
    )


def test_byol__the_target_moves_once_however_many_micro_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    moved = []
    monkeypatch.setattr(BYOL, "after_step", lambda self, progress: moved.append(progress.step))
    method = make()
    take_steps(method, build_optimizer(method, OptimConfig(), lr=1e-3), range(2), 2, batch_of=numbered_batch)
    assert moved == [0, 1]


def test_byol__micro_batches_average_where_batch_norm_is_frozen() -> None:
    gradients = []
    for micro_batch_size in (None, 2):
        method = make().double()
        for layer in method.modules():
            if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
                layer.eval()
        batch = Batch(views=(make_batch().views[0].double(),), indices=torch.arange(6))
        backward(
            method,
            batch.part,
            START,
            batch_size=len(batch.indices),
            micro_batch_size=micro_batch_size,
            autocast=contextlib.nullcontext,
        )
        gradients.append(torch.cat([p.grad.flatten() for p in method.parameters() if p.grad is not None]))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(
    ("key", "value"),
    [("positives", "queue"), ("neighbor_probability", 1.1), ("positive_weight", -0.1), ("tau_base", 1.01),
     ("projector_dim", 0)],
)  # fmt: skip
def test_byol_config__refuses(key: str, value: Any) -> None:
    with pytest.raises(UsageError, match=key):
        build(BYOLConfig, {key: value})


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"num_views": 4}, "need targets: views"),
        ({"target_views": 2}, "need targets: views"),
        ({"targets": "views", "positives": "mix"}, "positives must be augment, not mix"),
        ({"targets": "views", "num_views": 4, "target_views": 5}, "target_views 5 are more than the 4 views"),
        ({"targets": "views", "num_views": 4, "target_views": 1}, "nothing to predict"),
    ],
)
def test_byol_config__refuses_what_does_not_go_together(tree: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build(BYOLConfig, tree)
