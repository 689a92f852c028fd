"""Groups of views: several sizes and recipes in one step, with the draws of the views that they replace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import SMALL_RUN

from contrastive_cli.core.config import nested
from contrastive_cli.core.errors import UsageError
from contrastive_cli.core.types import Batch
from contrastive_cli.models.encoder import encoder_of, projector_of
from contrastive_cli.models.heads import project_views
from contrastive_cli.services.configuration import PretrainConfig, read_run_config, resolve
from contrastive_cli.services.training.loop import train_session
from contrastive_cli.services.training.sessions import start_session
from contrastive_cli.services.training.setup import set_up_training
from contrastive_cli.services.training.steps import Batches

GROUPS: list[dict[str, Any]] = [
    {"count": 2},
    {"count": 3, "size_ratio": 0.5, "crop_probability": 1.0, "crop_area": (0.05, 0.3)},
]


@pytest.fixture(autouse=True)
def cache(clr_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLR_CACHE", str(clr_cache))


def configured(groups: list[dict[str, Any]] | None = None, **more: Any) -> PretrainConfig:
    settings = {
        **SMALL_RUN,
        "train.batch_size": 16,
        "train.epochs": 0.05,
        **{k.replace("__", "."): v for k, v in more.items()},
    }
    tree = nested(settings)
    return resolve(config=None, sets=tree if groups is None else {**tree, "view_groups": groups}, flags={}).config


def first_batch(config: PretrainConfig) -> Batch:
    return Batches(set_up_training(config)).part(0, slice(0, 8))


def test_batches__one_tensor_a_group_of_its_own_size() -> None:
    views = first_batch(configured(GROUPS, method__num_views=5)).views
    assert [tuple(group.shape) for group in views] == [(2, 8, 1, 32, 32), (3, 8, 1, 16, 16)]


def test_batches__cutting_into_groups_changes_no_view() -> None:
    whole = first_batch(configured(method__num_views=3)).single_views
    cut = first_batch(configured([{"count": 1}, {"count": 2}], method__num_views=3)).single_views
    assert all(torch.equal(one, other) for one, other in zip(whole, cut, strict=True))


def test_batches__a_group_has_its_own_recipe() -> None:
    plain, usual = first_batch(configured([{"recipe": "none"}, {"count": 1}])).single_views
    assert torch.equal(usual, first_batch(configured()).single_views[1])
    setup = set_up_training(configured([{"recipe": "none"}, {"count": 1}]))
    _, positions = setup.sample(0)
    mean, std = setup.images.mean[0], setup.images.std[0]
    pixels = setup.source.gather(positions[:8]).float() / 255
    torch.testing.assert_close(plain, (pixels - mean) / std, atol=1e-5, rtol=1e-5)


def test_project_views__sizes_go_apart_and_in_order() -> None:
    setup = set_up_training(configured(GROUPS, method__num_views=5))
    views = Batches(setup).part(0, slice(0, 8)).views
    encoder, projector = encoder_of(setup.method).eval(), projector_of(setup.method)
    assert projector is not None
    projected = project_views(views, encoder=encoder, projector=projector.eval())
    one_by_one = torch.stack([projector(encoder(view)) for group in views for view in group])
    torch.testing.assert_close(projected, one_by_one, atol=1e-5, rtol=1e-4)


def test_train_session__groups_train_are_stored_and_read_again(tmp_path: Path) -> None:
    session = start_session(configured(GROUPS, method__num_views=5), out=tmp_path / "run", overwrite=False)
    assert len(list(train_session(session))) == session.total_steps
    groups = read_run_config(session.run).view_groups
    assert groups is not None
    assert [(group.count, group.size_ratio, group.crop_area) for group in groups] == [
        (2, 1.0, groups[0].crop_area),
        (3, 0.5, (0.05, 0.3)),
    ]
    assert groups[1].rotation == groups[0].rotation == 15.0  # what a group does not say is the run's


@pytest.mark.parametrize(
    ("groups", "more", "said"),
    [
        (GROUPS, {"method__num_views": 3}, "make 5 views of an image, and simclr takes 3"),
        ([{"count": 1, "size_ratio": 0.5}], {"method__name": "autodecoder"}, "draws the images it sees"),
        ([{"count": 2, "crop_aera": (0.1, 1)}], {}, "crop_aera"),
        ([{"count": 2, "recipe": "simclrr"}], {}, "simclrr"),
        (["two"], {}, "a list of mappings"),
    ],
)
def test_view_groups__refused(groups: list[Any], more: dict[str, Any], said: str) -> None:
    if "method__name" in more:
        settings = {"method.name": "autodecoder", "device": "cpu", "train.epochs": 0.05, "train.batch_size": 16}
        with pytest.raises(UsageError, match=said):
            set_up_training(resolve(config=None, sets={**nested(settings), "view_groups": groups}, flags={}).config)
        return
    with pytest.raises(UsageError, match=said):
        set_up_training(configured(groups, **more))


def test_set_up_training__refuses_views_whose_quarters_are_too_small() -> None:
    config = configured(method__name="byol", method__split=True, dataset__view_size=8)
    with pytest.raises(UsageError, match="encoder resnet9 takes no views of 4 px"):
        set_up_training(config)


@pytest.mark.parametrize("method", ["swav", "dino"])
def test_resolve__multi_crop_is_the_methods_own_and_can_be_replaced(method: str) -> None:
    own = configured(method__name=method)
    assert [(group.count, group.pixels(32)) for group in own.groups_of(6)] == [(2, 32), (4, 16)]
    views = first_batch(own).views
    assert [tuple(group.shape) for group in views] == [(2, 8, 1, 32, 32), (4, 8, 1, 16, 16)]
    plain = configured([{"count": 2}], method__name=method, method__num_views=2)
    assert [tuple(group.shape) for group in first_batch(plain).views] == [(2, 8, 1, 32, 32)]


def test_batches__byols_two_recipes_make_two_kinds_of_views() -> None:
    groups = [{"recipe": "byol-first"}, {"recipe": "byol-second"}]
    first, second = configured(groups, method__name="byol").groups_of(2)
    assert (first.blur_probability, first.solarize_probability) == (1.0, 0.0)
    assert (second.blur_probability, second.solarize_probability) == (0.1, 0.2)


def test_resolve__the_number_of_views_or_the_groups_can_be_said_alone(tmp_path: Path) -> None:
    assert configured(GROUPS).method.model_dump()["num_views"] == 5
    fewer = configured(method__name="swav", method__num_views=4)
    assert [(group.count, group.pixels(32)) for group in fewer.groups_of(4)] == [(2, 32), (2, 16)]
    alike = configured(method__name="swav", method__num_views=2)
    assert [tuple(group.shape) for group in first_batch(alike).views] == [(2, 8, 1, 32, 32)]
    file = tmp_path / "groups.yaml"
    file.write_text("method: {name: dino}\nview_groups: [{count: 2}, {count: 1, size_ratio: 0.5}]\n")
    said = resolve(config=str(file), sets={}, flags={}).config
    assert said.method.model_dump()["num_views"] == 3
    damaged = tmp_path / "damaged.yaml"
    damaged.write_text("method: {name: dino}\nview_groups: [{count: two}, {count: 1}]\n")
    with pytest.raises(UsageError, match=r"view_groups\.0\.count"):
        resolve(config=str(damaged), sets={"method": {"num_views": 3}}, flags={})
    over = resolve(config=str(file), sets={"method": {"num_views": 7}}, flags={}).config
    assert [group.count for group in over.groups_of(7)] == [2, 5]
