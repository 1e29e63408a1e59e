"""Training data that is made once and kept as compressed arrays: preparing a scan takes longer than a step with it."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from vertebra_core.training.real import annotated_volumes
from vertebra_core.truth import Truth
from vertebra_core.volume import Volume

Prepared = TypeVar("Prepared")


def keep(path: Path, prepared: Any) -> None:
    """Write the fields of a dataclass as compressed arrays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {f.name: np.asarray(getattr(prepared, f.name)) for f in fields(prepared)}
    np.savez_compressed(path, **arrays)  # pyright: ignore[reportArgumentType] - no field is called allow_pickle


def prepared_scans(
    images: Path | None,
    annotations: Path | None,
    cache: Path,
    leave_out: Sequence[str],
    prepare: Callable[[str, Volume, Truth], Prepared],
    load: Callable[[Path], Prepared],
    say: Callable[[str], None],
) -> list[Prepared]:
    """All annotated scans but those of `leave_out`, by name; prepared where one of them is not in `cache` yet."""
    if images is None or annotations is None:
        return []
    names = {file.stem for file in Path(annotations).glob("*.json")}
    if not names or any(not (cache / f"{name}.npz").exists() for name in names):
        for name, volume, truth in annotated_volumes(images, annotations):
            say(f"preparing {name}")
            keep(cache / f"{name}.npz", prepare(name, volume, truth))
    return [load(cache / f"{name}.npz") for name in sorted(names - set(leave_out))]
