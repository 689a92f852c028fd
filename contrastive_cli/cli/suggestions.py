"""What was probably meant by a command or an option that there is not: by sense first, by letters only if near."""

from __future__ import annotations

import difflib
import re
from typing import Any

# The words of other tools. An option counts where the command has it; `--set` where it takes fields.
_WEIGHTS = ("--weights NAME", "--run RUN")
_RUN = ("--run RUN", "--resume RUN", "--encoder NAME")
_OUT = ("--out PATH", "--save-images FOLDER")
_DATA = ("--data-dir FOLDER", "--root FOLDER")
_LENGTH = ("--epochs N",)
_PRECISION = ("--precision bf16",)
_ENCODER = ("--encoder NAME",)
_K = ("-k N", "--count N")
OPTIONS = {
    **dict.fromkeys(("pretrained", "weights", "init", "from-pretrained"), _WEIGHTS),
    **dict.fromkeys(("model", "checkpoint", "ckpt", "model-path", "load"), _RUN),
    **dict.fromkeys(("arch", "architecture", "backbone", "network", "net"), _ENCODER),
    **dict.fromkeys(("output", "output-dir", "outdir", "save", "save-dir", "save-path", "logdir", "log-dir"), _OUT),
    **dict.fromkeys(("data", "data-path", "input", "folder", "images", "dir", "train-dir"), _DATA),
    **dict.fromkeys(("num-epochs", "max-epochs", "n-epochs", "steps", "max-steps", "iterations"), _LENGTH),
    **dict.fromkeys(("time", "max-time", "duration", "minutes"), ("--budget 15m",)),
    **dict.fromkeys(("learning-rate", "base-lr", "blr"), ("--lr RATE",)),
    **dict.fromkeys(("batch", "bs", "bsz"), ("--batch-size N",)),
    **dict.fromkeys(("amp", "fp16", "bf16", "half", "mixed-precision", "dtype"), _PRECISION),
    **dict.fromkeys(("gpu", "gpus", "cuda", "accelerator"), ("--device cuda",)),
    **dict.fromkeys(("continue", "restart", "resume-from"), ("--resume RUN",)),
    **dict.fromkeys(("force", "replace"), ("--overwrite",)),
    **dict.fromkeys(("temperature", "temp", "tau", "t"), ("--set method.temperature=0.2",)),
    **dict.fromkeys(("weight-decay", "wd"), ("--set optim.weight_decay=1e-4",)),
    **dict.fromkeys(("optimizer", "optim", "opt"), ("--set optim.name=NAME",)),
    **dict.fromkeys(("image-size", "img-size", "size", "resolution", "input-size"), ("--set dataset.size=N",)),
    **dict.fromkeys(("top-k", "topk", "n-neighbors", "neighbours", "num-neighbors"), _K),
    **dict.fromkeys(("distance", "similarity"), ("--metric cosine",)),
    **dict.fromkeys(("method-name", "algorithm", "loss"), ("--method NAME",)),
}
COMMANDS = {
    **dict.fromkeys(("train", "fit", "learn", "ssl"), "clr pretrain"),
    **dict.fromkeys(("extract", "encode", "features", "infer", "inference", "embeddings"), "clr embed"),
    **dict.fromkeys(("eval", "evaluate", "test", "probe", "benchmark", "linear", "linear-probe"), "clr linear-eval"),
    **dict.fromkeys(("predict", "classify", "fine-tune", "tune", "train-classifier"), "clr finetune"),
    **dict.fromkeys(("search", "query", "nearest", "neighbors", "neighbours", "nn", "retrieve", "index"), "clr knn"),
    **dict.fromkeys(("compare", "verify", "sim", "distance", "duplicates"), "clr similarity"),
    **dict.fromkeys(("show", "draw", "visualize", "viz", "map", "tsne", "umap", "figure"), "clr plot"),
    **dict.fromkeys(("list", "ls", "history", "experiments", "models", "status"), "clr runs"),
    **dict.fromkeys(("remove", "delete", "rm"), "clr runs remove"),
    **dict.fromkeys(("summary", "summarize", "html"), "clr report"),
    **dict.fromkeys(("data", "download", "dataset"), "clr datasets"),
    **dict.fromkeys(("check", "info", "env", "version", "diagnose"), "clr doctor"),
    **dict.fromkeys(("losses", "method", "algorithms"), "clr methods"),
}
NEAR = 0.75
_NO_COMMAND = re.compile(r"No such command '(.{1,100}?)'")


def explain(error: Any) -> tuple[str, str | None]:
    """The message of an error of the command line without guesses, and what was probably meant, if that is known."""
    message = str(error.message)
    unknown = getattr(error, "option_name", None)
    if message.startswith("No such option") and unknown is not None:
        meant = _meant_option(str(unknown), getattr(error, "ctx", None))
        return f"No such option: {unknown}", meant
    command = _NO_COMMAND.match(message)
    if command is not None:
        return f"No such command {command[1]!r}", _meant_command(command[1], getattr(error, "ctx", None))
    return str(error.format_message()), None


def _meant_option(unknown: str, context: Any) -> str | None:
    parameters = context.command.params if context is not None else []
    known = {name for parameter in parameters for name in (*parameter.opts, *parameter.secondary_opts)}
    for meant in OPTIONS.get(unknown.lstrip("-").replace("_", "-").lower(), ()):
        if meant.split()[0] in known:
            return meant
    options = [name for name in known if name.startswith("--")]
    return next(iter(difflib.get_close_matches(unknown, options, n=1, cutoff=NEAR)), None)


def _meant_command(unknown: str, context: Any) -> str | None:
    word = unknown.replace("_", "-").lower()
    if word in COMMANDS:
        return COMMANDS[word]
    group = getattr(context, "command", None)
    known = sorted(set(COMMANDS.values()) | {f"clr {name}" for name in getattr(group, "commands", ())})
    return next(iter(difflib.get_close_matches(f"clr {word}", known, n=1, cutoff=NEAR)), None)
