"""The few values that travel between packages. Shapes: V views, B batch, C H W image, D embedding, P projection."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

if TYPE_CHECKING:
    from torch import Generator, Tensor
    from torch.nn import Module, Parameter

    from contrastive_cli.core.config import Config

CountProgress = Callable[[int, int], None]
"""How long work reports itself: called with (done, total)."""

Say = Callable[[str], None]
"""How work that may take a while says what it begins with."""


def silent(text: str) -> None:
    """Say nothing."""


class Noise(Protocol):
    """Random numbers for the samples of a batch, which depend on the seed, the step and the sample only."""

    @property
    def step_seed(self) -> int:
        """Of a generator for what is drawn for a whole batch; the same in all of its parts."""

    def normal(self, slots: int) -> Tensor:
        """Standard normal numbers [B, slots] float32."""

    def part(self, piece: slice) -> Noise:
        """Those of some of the samples."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """One batch of views.

    Attributes:
        views: For each group of equal views, float [V_g, B, C, H_g, W_g], normalized.
        indices: [B] int64, position of each sample in the training set.
        labels: [B] int64, -1 where unknown; None if the dataset has none.
        noise: What a method may draw from, instead of torch's generator; None for a batch that was made by hand.
    """

    views: tuple[Tensor, ...]
    indices: Tensor
    labels: Tensor | None = None
    noise: Noise | None = None

    @property
    def single_views(self) -> list[Tensor]:
        """The V views of all groups, one after the other, each [B, C, H_g, W_g]."""
        return [view for group in self.views for view in group]

    def part(self, piece: slice) -> Batch:
        """Some of its samples."""
        labels = None if self.labels is None else self.labels[piece]
        views = tuple(group[:, piece] for group in self.views)
        noise = None if self.noise is None else self.noise.part(piece)
        return Batch(views=views, indices=self.indices[piece], labels=labels, noise=noise)

    def normal(self, slots: int) -> Tensor:
        """Standard normal numbers [B, slots] float32: of `noise`, or of torch's generator where there is none."""
        if self.noise is not None:
            return self.noise.normal(slots)
        import torch

        return torch.randn(len(self.indices), slots)


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageFacts:
    """What a method may know of the images it is built for.

    Attributes:
        count: Training images N.
        channels: C; 1 or 3, or as many as bands were chosen.
        size: Side H = W in pixels of what the method sees.
        num_classes: Classes of the labels, 0 without labels.
    """

    count: int
    channels: int
    size: int
    num_classes: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """Where the training stands: `step` of `total_steps`, counted from zero.

    Where the length is corrected under way, both count the steps that were planned at first, and `step` may lie between
    two of them.
    """

    step: float
    total_steps: int

    @property
    def fraction(self) -> float:
        """The part of the training that is done, in [0, 1)."""
        return self.step / max(1, self.total_steps)


@dataclass(frozen=True, kw_only=True, slots=True)
class LossOutput:
    """A scalar loss with a graph, and detached scalar tensors worth recording."""

    loss: Tensor
    metrics: Mapping[str, Tensor] = field(default_factory=dict)


class Method(Protocol):
    """A method: a torch module with a loss and an embedding. The classes in `methods/` are methods.

    `num_views` is how many views of an image one step takes, `embedding_dim` the width D of what `embed` returns. A
    method with an encoder holds it as `encoder`, one with a projector holds that as `projector`. The members below
    `embed` are those of `torch.nn.Module` that the other packages use.
    """

    num_views: int
    embedding_dim: int

    def training_loss(self, batch: Batch, progress: Progress) -> LossOutput:
        """The loss of one batch; never logs, never moves devices."""

    def embed(self, images: Tensor) -> Tensor:
        """[B, C, H, W] normalized images -> h [B, D]."""

    def parameters(self) -> Iterator[Parameter]:
        """All weights."""

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """All weights with their names."""

    def modules(self) -> Iterator[Module]:
        """The method and every module in it."""

    def named_modules(self) -> Iterator[tuple[str, Module]]:
        """The method and every module in it, with their names."""

    def state_dict(self, *, keep_vars: bool = ...) -> dict[str, Any]:
        """All weights and buffers by name."""

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """Take over weights and buffers."""

    def train(self) -> Self:
        """Go into training mode."""

    def eval(self) -> Self:
        """Go into evaluation mode."""

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move to a device."""

    def requires_grad_(self, requires_grad: bool = ...) -> Self:
        """Whether the weights take a gradient."""


@runtime_checkable
class AfterStep(Protocol):
    """A `Method` that moves something beside the optimizer: an average of its weights, codes, a queue."""

    def after_step(self, progress: Progress) -> None:
        """Called once after each optimizer step, however many micro-batches it took."""


@runtime_checkable
class Leaving(Protocol):
    """An `AfterStep` method for which every micro-batch leaves something, so that processes have to exchange it."""

    def give_left(self) -> tuple[Tensor, ...]:
        """What the last micro-batch has left, each [b, ...], once its backward pass is done; it is forgotten here."""

    def take_left(self, left: list[tuple[Tensor, ...]]) -> None:
        """What all micro-batches of the step have left, in their order, for `after_step`."""


@runtime_checkable
class Contrastive(Protocol):
    """A `Method` whose loss needs the projections of the whole batch, so that accumulation can keep all negatives.

    Where a loss needs more of a view than its projection, such as what a second network makes of it, `project` returns
    that too, as further rows of the first dimension.
    """

    def project(self, views: tuple[Tensor, ...]) -> Tensor:
        """Groups of views [V_g, B, C, H_g, W_g] -> z [V, B, P], in the order of the groups."""

    def contrast(self, projections: Tensor, labels: Tensor | None) -> LossOutput:
        """The loss of z [V, B, P] with labels [B]."""


@runtime_checkable
class CountingNegatives(Protocol):
    """A `Contrastive` method whose negatives are not all other views of the batch."""

    def negatives_per_anchor(self, batch_size: int) -> int:
        """How many vectors an anchor is pushed away from."""


@runtime_checkable
class Splitting(Protocol):
    """A `Method` that cuts views into parts before the encoder: so many along each side."""

    parts_per_side: int


@runtime_checkable
class Drawing(Protocol):
    """A `Contrastive` method whose loss draws random numbers."""

    def contrast_drawing(self, projections: Tensor, labels: Tensor | None, *, seed: int | None) -> LossOutput:
        """As `contrast`, with the draws of a generator that begins with `seed`; None for torch's own."""


@runtime_checkable
class FromNeighbors(Protocol):
    """A `Method` some of whose views may show a mined neighbor of the image.

    `neighbor_views` holds for each of the V views the probability that it shows a neighbor, in [0, 1].
    """

    neighbor_views: tuple[float, ...]


@runtime_checkable
class Uncertain(Protocol):
    """A `Method` that knows how sure it is of an image."""

    def embed_with_uncertainty(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """[B, C, H, W] -> h [B, D], and [B] that is larger where the method is less sure."""


@runtime_checkable
class Reconstructing(Protocol):
    """A `Method` that can draw an image again from its embedding."""

    def decode(self, embeddings: Tensor) -> Tensor:
        """[B, D] -> [B, C, H, W], normalized as the images that were embedded."""


@runtime_checkable
class Generative(Protocol):
    """A `Reconstructing` method that knows where embeddings lie, so that it can draw images that never were."""

    def sample(self, count: int, *, generator: Generator) -> Tensor:
        """Embeddings [count, D] from the prior; the generator lies on the CPU."""


@runtime_checkable
class Classifying(Protocol):
    """A `Method` with a head for the classes of its training labels."""

    def classify(self, images: Tensor) -> Tensor:
        """[B, C, H, W] -> logits [B, K]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodSpec:
    """The last line of a method's file.

    Attributes:
        summary: One line for `clr methods`.
        config: Its frozen configuration; the field `name` is the name of the file.
        build: Called as `build(config, encoder=encoder, images=ImageFacts(...))`; returns a torch module that is a
            `Method`. The encoder is None where the method has none.
        needs_labels: Whether training is impossible without labels.
        has_encoder: Whether the method trains an encoder.
        draws_images: Whether it draws the very views it sees, so that these must have the size of the images.
        recipe: Name of the views it wants where the user says nothing; None takes the dataset's.
        view_groups: Groups of views where the user names none, as in a configuration: `({"count": 2}, {"count": 6,
            "size_ratio": 0.5, "crop_area": (0.05, 0.3)})`; the fields are those of `views.recipe.ViewGroup`. Empty:
            all views are alike.
    """

    summary: str
    config: type[Config]
    build: Callable[..., Method]
    needs_labels: bool = False
    has_encoder: bool = True
    draws_images: bool = False
    recipe: str | None = None
    view_groups: tuple[Mapping[str, Any], ...] = ()
