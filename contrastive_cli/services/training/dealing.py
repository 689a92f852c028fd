"""Whether and how a batch is dealt to several processes: the micro-batch is what they are dealt."""

from __future__ import annotations

from contrastive_cli.core.errors import UsageError
from contrastive_cli.core.types import AfterStep, Leaving, Method
from contrastive_cli.core.wording import counted
from contrastive_cli.engine.accumulate import cut_batch
from contrastive_cli.engine.distributed import num_processes
from contrastive_cli.services.configuration import PretrainConfig
from contrastive_cli.services.own_methods import own_file_of


def refuse_one_pass(config: PretrainConfig, *, resumed: bool) -> None:
    """Ask that a run which is gone on with has micro-batches, if there are several processes.

    Raises:
        UsageError: If its whole batch goes through the model at once, so that batch norm sees it as a whole.
    """
    if resumed and num_processes() > 1 and config.train.micro_batch_size is None:
        raise UsageError(
            f"this run passes its whole batch at once, which cannot be dealt to {num_processes()} processes",
            hint="go on in one process, or start a new run with --micro-batch-size",
        )


def fit_pieces(config: PretrainConfig) -> PretrainConfig:
    """The configuration with micro-batches; where none were given, each process gets one.

    From then on they belong to the run: another number of processes computes the same.

    Raises:
        UsageError: If there are fewer micro-batches than processes, the encoder is to be compiled, or the processes
            cannot share batch norm.
    """
    train = config.train
    if train.compile and (num_processes() > 1 or train.reduction == "ordered"):
        raise UsageError(
            "--compile is for one process, and for train.reduction=fast: compiled layers show no statistics of a "
            "micro-batch",
            hint="leave --compile out",
        )
    if train.batch_norm_processes not in (1, num_processes()):
        raise UsageError(
            f"train.batch_norm_processes is {train.batch_norm_processes}, but this is a training in "
            f"{counted(num_processes(), 'process', plural='processes')}",
            hint="start as many processes: a run whose batch norm they share is a model of that number",
        )
    if num_processes() == 1:
        return config
    if train.micro_batch_size is None:
        train = train.model_copy(update={"micro_batch_size": max(2, -(-config.batch_size // num_processes()))})
    pieces = cut_batch(config.batch_size, train.micro_batch_size)
    if len(pieces) < num_processes():
        raise UsageError(
            f"a batch of {config.batch_size} in {counted(len(pieces), 'micro-batch', plural='micro-batches')} leaves "
            f"some of {num_processes()} processes without work",
            hint="pass a --micro-batch-size of at most "
            f"{max(2, config.batch_size // num_processes())}, or start fewer processes",
        )
    if train.batch_norm_processes > 1 and len(pieces) % num_processes():
        raise UsageError(
            f"a batch of {config.batch_size} in {len(pieces)} micro-batches does not give each of {num_processes()} "
            "processes as many, which train.batch_norm_processes asks for",
            hint="pass another --micro-batch-size",
        )
    return config.model_copy(update={"train": train})


def refuse_hidden_state(method: Method, config: PretrainConfig) -> None:
    """Ask that a method of one's own says what it keeps from a micro-batch for the end of the step.

    Raises:
        UsageError: If it does not.
    """
    own = own_file_of(config.method_name)
    if num_processes() > 1 and own is not None and isinstance(method, AfterStep) and not isinstance(method, Leaving):
        raise UsageError(
            f"{config.method_name} has `after_step` and does not say what micro-batches leave for it, so it trains in "
            "one process only",
            hint="add `give_left` and `take_left`, see docs/scale.md",
        )
