"""The list of names that a pickle of plain data may ask for; every other name is refused."""

from __future__ import annotations

from collections.abc import Mapping

from contrastive_cli.pickles.arrays import ARRAY_NAMES
from contrastive_cli.pickles.containers import CONTAINER_NAMES
from contrastive_cli.pickles.refusals import TEXT_HINT, Global, RefusedError

CONVERTERS = {
    "pandas": "convert it: pandas.to_pickle(frame.reset_index().to_dict('list'), 'x.pkl'), "
    "or frame.to_parquet('x.parquet')",
    "torch": "save it with torch.save(...), or convert it: numpy.savez('x.npz', embeddings=tensor.numpy())",
    "pathlib": "store the paths as text: [str(path) for path in paths]",
    "joblib": "convert it: pathlib.Path('x.pkl').write_bytes(pickle.dumps(joblib.load('x.joblib')))",
}

_GLOBALS: dict[str, Global] = ARRAY_NAMES | CONTAINER_NAMES


def find_global(module: str, name: str, *, more: Mapping[str, Global | str] | None = None) -> Global | str:
    """The stand-in for `module.name`, or what `more` says of it; every name that is on neither list is refused."""
    dotted = f"{module}.{name}"
    found = _GLOBALS.get(dotted) or (more or {}).get(dotted)
    if found is None:
        raise RefusedError(
            f"it asks for {dotted[:100]!a}, which is not data",
            hint=CONVERTERS.get(module.partition(".")[0], TEXT_HINT),
        )
    return found
