"""The measured noise of the heights as a document that lies beside a cohort: one JSON file, made by `vertebra noise`.

It says which networks it was measured with, when, and on how many patients, and holds draws of the posterior of the
noise (`vertebra_core.epidemiology.noise_fit`) for each class of slices. A correction with the noise of other networks,
or with none, is refused.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from vertebra_core.cohort.commit import replace
from vertebra_core.cohort.snapshot import PROVENANCE
from vertebra_core.epidemiology.noise_fit import FittedNoise
from vertebra_core.epidemiology.noise_sampler import NoiseDraws
from vertebra_core.errors import WrongUse
from vertebra_core.storage import Place

NOISE_FILE = "noise.json"
"""Its name in the folder of a cohort."""
SHIPPED = Path(__file__).parents[1] / "weights" / NOISE_FILE
"""Noise of the networks that are shipped, from replicate reads of phantoms and public CT (``make replicate-noise``)."""
UNITS = "mm2; errors of (ha-hp, hm-hp) of one read"
KIND, FORMAT = "vertebra height noise", 1
ASKED_PATIENTS = 40
"""Patients of a replicate study; fewer are taken, and said (docs/noise.md)."""
DIGITS = 6
"""After the decimal point, mm2: a thousandth of the smallest noise seen."""


@dataclass(frozen=True)
class NoiseClass:
    """Noise of the studies with slices up to a spacing.

    Parameters
    ----------
    slices_up_to_mm : float, optional
        Largest distance of slices; None for any.
    fitted : FittedNoise
    """

    slices_up_to_mm: float | None
    fitted: FittedNoise

    @property
    def covariance(self) -> Float[np.ndarray, "2 2"]:
        """Covariance of the errors of (ha-hp, hm-hp) of one read, mm2: own and shared part; posterior median of each.

        The Student part has a variance only above 2 degrees of freedom, which all draws have.
        """
        one = self.fitted
        times = one.freedom / (one.freedom - 2)
        return np.median(one.scale * times[:, None, None] + one.shared, axis=0)


@dataclass(frozen=True)
class NoiseModel:
    """All that a correction needs to know of the noise.

    Parameters
    ----------
    measured_on : str
        Day of the replicate study, ISO 8601.
    model_digest : str
        Of the networks whose heights were compared.
    source : str
        What was read twice.
    classes : tuple of NoiseClass
        By ascending spacing of slices.
    """

    measured_on: str
    model_digest: str
    source: str
    classes: tuple[NoiseClass, ...]

    @property
    def n_patients(self) -> int:
        """Patients of the class with the fewest."""
        return min(one.fitted.n_patients for one in self.classes)

    def class_of(self, spacing_mm: Float[np.ndarray, "N"]) -> Int[np.ndarray, "N"]:
        """Number of the class for each distance of slices; -1 where none reaches so far or the distance is not known.

        A class without bound takes any distance, also an unknown one.
        """
        spacing = np.asarray(spacing_mm, float)
        found = np.full(spacing.shape, -1)
        for number in reversed(range(len(self.classes))):
            bound = self.classes[number].slices_up_to_mm
            found[np.ones(spacing.shape, bool) if bound is None else spacing <= bound] = number
        return found

    def draws(self) -> NoiseDraws:
        """Draws of all classes side by side."""
        fitted = [one.fitted for one in self.classes]
        scale, shared, freedom = (
            np.stack([getattr(one, name) for one in fitted], 1) for name in ("scale", "shared", "freedom")
        )
        return NoiseDraws(scale, shared, freedom)


def check_noise(noise: NoiseModel | None, model_digest: str) -> NoiseModel:
    """The noise, if it was measured with the networks of this digest.

    Raises
    ------
    WrongUse
        None was given, or it is of other networks.
    """
    if noise is None:
        raise WrongUse("no measured noise: measure it with `vertebra noise` from two cohorts of the same patients")
    if noise.model_digest != model_digest:
        raise WrongUse(
            f"the noise is of networks {noise.model_digest}, the cohort of networks {model_digest}: measure it anew"
        )
    return noise


def known_noise(model_digest: str) -> dict[str, Any] | None:
    """What is known of the noise of these networks from their own replicate reads, for the metadata of a snapshot.

    Returns
    -------
    dict or None
        Without the draws, which `SHIPPED` holds; None for other networks than the shipped ones.
    """
    try:
        noise = read_noise(SHIPPED)
    except WrongUse:
        return None
    if noise.model_digest != model_digest:
        return None
    return {
        "measured_on": noise.measured_on,
        "source": noise.source,
        "units": UNITS,
        "classes": [
            {name: value for name, value in _class_document(one).items() if not name.startswith("draws")}
            for one in noise.classes
        ],
    }


def digest_of(snapshot: Place) -> str:
    """Digest of the networks that measured a snapshot.

    Raises
    ------
    WrongUse
        The snapshot does not say.
    """
    try:
        return str(json.loads((snapshot / PROVENANCE).read_text())["model_digest"])
    except (FileNotFoundError, ValueError, KeyError) as error:
        raise WrongUse(f"{snapshot / PROVENANCE} does not name the networks ({type(error).__name__})") from error


def write_noise(path: Place, noise: NoiseModel) -> None:
    """Write the document, whole or not at all."""
    document = {
        "kind": KIND,
        "format": FORMAT,
        "measured_on": noise.measured_on,
        "model_digest": noise.model_digest,
        "source": noise.source,
        "units": UNITS,
        "classes": [_class_document(one) for one in noise.classes],
    }
    replace(path, (json.dumps(document, indent=1) + "\n").encode())


def read_noise(path: Place) -> NoiseModel:
    """Read the document.

    Raises
    ------
    WrongUse
        No such file, or no noise in it that can be used.
    """
    try:
        document = json.loads(path.read_text())
        if document["kind"] != KIND or document["format"] != FORMAT:
            raise ValueError(f"{document['kind']!r}, format {document['format']!r}")
        classes = tuple(_class_from(one) for one in document["classes"])
        date.fromisoformat(document["measured_on"])
        noise = NoiseModel(
            document["measured_on"], str(document["model_digest"]), str(document["source"]), _in_order(classes)
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WrongUse(f"{path}: no measured noise ({type(error).__name__}: {error})") from error
    return noise


def _class_document(one: NoiseClass) -> dict[str, Any]:
    fitted = one.fitted
    draws = np.concatenate([_three(fitted.scale), _three(fitted.shared), fitted.freedom[:, None]], axis=1)
    return {
        "slices_up_to_mm": one.slices_up_to_mm,
        "n_patients": fitted.n_patients,
        "n_vertebrae": fitted.n_vertebrae,
        "n_reads": fitted.n_reads,
        "covariance": one.covariance.round(DIGITS).tolist(),
        "bias_mm": fitted.bias_mm.round(DIGITS).tolist(),
        "draws_are": ["C_aa", "C_am", "C_mm", "shared_aa", "shared_am", "shared_mm", "student_nu"],
        "draws": draws.round(DIGITS).tolist(),
    }


def _class_from(document: Mapping[str, Any]) -> NoiseClass:
    draws = np.array(document["draws"], float)
    if draws.ndim != 2 or draws.shape[1] != 7 or not len(draws) or not np.isfinite(draws).all():
        raise ValueError("draws must be rows of seven numbers")
    scale, shared, freedom = _matrices(draws[:, :3]), _matrices(draws[:, 3:6]), draws[:, 6]
    if not (np.linalg.det(scale) > 0).all() or not (scale[:, 0, 0] > 0).all() or not (freedom > 2).all():
        raise ValueError("every draw needs a positive definite C and more than 2 degrees of freedom")
    none_shared = not shared.any()
    if not none_shared and not ((np.linalg.det(shared) > 0) & (shared[:, 0, 0] > 0)).all():
        raise ValueError("the shared covariance must be positive definite in every draw, or 0 in all")
    bound = document["slices_up_to_mm"]
    if bound is not None and not 0 < float(bound) < np.inf:
        raise ValueError("slices_up_to_mm must be a positive number or null")
    fitted = FittedNoise(
        scale,
        shared,
        freedom,
        np.array(document["bias_mm"], float),
        *(int(document[name]) for name in ("n_patients", "n_vertebrae", "n_reads")),
    )
    return NoiseClass(None if bound is None else float(bound), fitted)


def _in_order(classes: Sequence[NoiseClass]) -> tuple[NoiseClass, ...]:
    bounds = [np.inf if one.slices_up_to_mm is None else one.slices_up_to_mm for one in classes]
    if not bounds or len({len(one.fitted.freedom) for one in classes}) > 1 or len(set(bounds)) < len(bounds):
        raise ValueError("classes must differ in their bound and have equally many draws")
    return tuple(classes[i] for i in np.argsort(bounds))


def _three(matrices: Float[np.ndarray, "D 2 2"]) -> Float[np.ndarray, "D 3"]:
    return matrices[:, [0, 0, 1], [0, 1, 1]]


def _matrices(three: Float[np.ndarray, "D 3"]) -> Float[np.ndarray, "D 2 2"]:
    return three[:, [[0, 1], [1, 2]]]
