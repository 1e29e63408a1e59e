"""How often levels are named rightly: ``python -m benchmarks.levels --images DIR --annotations DIR --work DIR``.

Trains the network of levels three times, each time without a third of the patients (minutes on one core each; a run
that was stopped goes on), and names the vertebrae of the patients left out, in whole scans and in parts of them.
Prints what docs/levels.md shows: right, wrong and without a name by patient, reliability, the best trust and doubt of
the chain, and the end-to-end figures of the shipped weights on the annotated scans and on phantoms.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from vertebra_core.levels.chain import Finds
    from vertebra_core.levels.network import LevelNetwork
    from vertebra_core.models import Models
    from vertebra_core.settings import LevelSettings
    from vertebra_core.truth import Truth
    from vertebra_core.volume import Volume

FOLDS = (
    ("cptac_luad_c3n_00704", "verse012", "lidc_idri_0314", "totalseg_aorta_crop", "cptac_pda_c3l_00189"),
    ("acrin_flt_breast_001", "verse014", "lidc_idri_0001", "rider_lung_1129164940", "sts_037_crop"),
    ("acrin_nsclc_042", "lctsc_test_s1_104", "lidc_idri_0002", "totalseg_example", "crlm_ct_1006"),
)
"""Patients left out together; each third holds necks, chests and loins."""
PARTS = (4, 7, 11)
"""Lengths of the parts of scans that are named too: an abdomen, half a chest, nearly a chest."""
TRUSTS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 1.0)
DOUBTS = (0.02, 0.05, 0.1, 0.2, 0.3)
BINS = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0001)
MATCH_MM = 10.0
"""A find within this distance of a true centre is that vertebra: half the distance of the nearest neighbours."""
PHANTOM_VIEWS = ("chest", "abdomen", "neck", "lumbar", "spine", "trunk")
PHANTOM_SPACING = (1.4, 1.4, 2.5)
"""Coarse, for speed: levels need no sharper scan."""
PHANTOM_SEED = 8000
"""Far from the seeds of training."""


@dataclass(frozen=True)
class Case:
    """Looks of the vertebrae of a view, with their true names.

    Parameters
    ----------
    patient : str
    view : str
        "whole" or which part.
    names : tuple of str
    finds : Finds
    """

    patient: str
    view: str
    names: tuple[str, ...]
    finds: "Finds"


def views(truth: "Truth") -> Iterator[tuple[str, slice]]:
    """The whole row of vertebrae and overlapping parts of it."""
    count = len(truth.points)
    yield "whole", slice(0, count)
    for length in PARTS:
        if length < count:
            for start in np.unique(np.linspace(0, count - length, 1 + (count - length + 2) // 3).astype(int)):
                yield f"{length} from {truth.levels[start]}", slice(int(start), int(start) + length)


def cut_to(volume: "Volume", points: np.ndarray, margin_mm: float = 3.0) -> "Volume":
    """The slices between the highest and the lowest keypoint: a scan that ends at the first and last vertebra."""
    from vertebra_core.geometry import apply_affine

    axis = int(np.argmax(np.abs(volume.patient_from_voxel[2, :3])))
    step = float(volume.spacing[axis])
    places = apply_affine(np.linalg.inv(volume.patient_from_voxel), points.reshape(-1, 3))[:, axis]
    array_axis = 2 - axis
    low = max(0, int(places.min() - margin_mm / step))
    high = min(volume.hu.shape[array_axis], int(places.max() + margin_mm / step) + 2)
    affine = volume.patient_from_voxel.copy()
    affine[:3, 3] += affine[:3, axis] * low
    kept = [slice(None)] * 3
    kept[array_axis] = slice(low, high)
    return replace(volume, hu=volume.hu[tuple(kept)], patient_from_voxel=affine)


def cases_of(patient: str, volume: "Volume", truth: "Truth", network: "LevelNetwork") -> Iterator[Case]:
    """Looks of the whole scan and of its parts, at the true places."""
    from vertebra_core.levels.chain import Finds
    from vertebra_core.levels.find import log_sizes, looks_along, neighbour_ratio
    from vertebra_core.training.spines import true_line

    for view, part in views(truth):
        points = truth.points[part]
        scan = volume if view == "whole" else cut_to(volume, points)
        line = true_line(points, 30.0)
        along = line.straight_from_patient(points.mean(1))[:, 2]
        names = tuple(str(level) for level in truth.levels[part])
        looks, sizes = looks_along(scan, line, along, network), log_sizes(points, truth.complete[part])
        yield Case(patient, view, names, Finds(looks, neighbour_ratio(points), sizes))


def fold_networks(images: Path, annotations: Path, work: Path) -> dict[str, "LevelNetwork"]:
    """For every patient a network that did not learn from that patient."""
    from vertebra_core.levels.network import LevelNetwork
    from vertebra_core.models import load_network
    from vertebra_core.training.levels import train

    networks = {}
    for k, fold in enumerate(FOLDS):
        weights = work / f"levels-fold-{k}"
        if not (weights / "levels.safetensors").is_file():
            train(images, annotations, work, weights, leave_out=fold)
        networks |= dict.fromkeys(fold, load_network(LevelNetwork(), weights / "levels.safetensors"))
    return networks


def named(case: Case, settings: "LevelSettings") -> tuple[list[str], np.ndarray, np.ndarray]:
    """Best names of a case, their probabilities, and the probabilities of the true names."""
    from vertebra_core.levels.chain import name_chain
    from vertebra_core.levels.find import trust_of
    from vertebra_core.levels.names import NAMES

    chain = name_chain(case.finds, trust_of(settings))
    rows = np.arange(len(case.names))
    said = chain.probability[rows, [NAMES.index(n) for n in chain.path]]
    return list(chain.path), said, chain.probability[rows, [NAMES.index(n) for n in case.names]]


def log_loss(cases: Sequence[Case], settings: "LevelSettings") -> float:
    """Mean of -log probability of the true names: by view, then by patient, so that no long scan outweighs others."""
    patients: dict[str, list[float]] = {}
    for case in cases:
        patients.setdefault(case.patient, []).append(-float(np.log(np.maximum(named(case, settings)[2], 1e-9)).mean()))
    return float(np.mean([np.mean(losses) for losses in patients.values()]))


@dataclass(frozen=True)
class Outcome:
    """Names that the whole method gave in one scan.

    Parameters
    ----------
    scan : str
    true : tuple of str
        Levels of the true vertebrae that were found.
    said : tuple of (str or None)
    sure : array
        NaN where no name was given.
    unmatched : int
        Finds that are no vertebra of the truth: cut ones beyond it, an axis or a sacrum.
    missed : int
        Whole vertebrae that were not found.
    """

    scan: str
    true: tuple[str, ...]
    said: tuple[str | None, ...]
    sure: np.ndarray
    unmatched: int
    missed: int


def measured(name: str, volume: "Volume", truth: "Truth", models: "Models") -> Outcome:
    """Run the whole method on a scan and compare its names with the true ones."""
    from vertebra_core.settings import Settings
    from vertebra_core.study import measure_study

    result = measure_study(volume, models, Settings())
    away = np.linalg.norm(result.points.mean(1)[:, None] - truth.points.mean(1)[None], axis=-1)
    nearest, matched = away.argmin(1), away.min(1) < MATCH_MM
    true = tuple(str(truth.levels[i]) for i in nearest[matched])
    said = tuple(level for level, good in zip(result.levels, matched, strict=True) if good)
    missed = int((truth.complete & (away.min(0) >= MATCH_MM)).sum())
    return Outcome(name, true, said, result.level_confidence[matched], int((~matched).sum()), missed)


def phantoms_measured(count: int, models: "Models") -> Iterator[Outcome]:
    """Outcomes of phantoms of all views; every third has one vertebra more or less."""
    from vertebra_core.phantom.anatomy import random_patient
    from vertebra_core.phantom.patient import PatientOptions
    from vertebra_core.phantom.scanner import random_scan, render, truth_in_view

    for i in range(count):
        rng = np.random.default_rng(PHANTOM_SEED + i)
        phantom = random_patient(rng, PatientOptions(variant_probability=1.0 if i % 3 == 0 else 0.0))
        view = PHANTOM_VIEWS[(i // 3 + i) % len(PHANTOM_VIEWS)]
        scan = random_scan(rng, phantom, view, PHANTOM_SPACING)
        levels = phantom.truth.levels
        ribs = sum(level[0] == "T" for level in levels)
        name = f"phantom {i} {view} {ribs}T {len(levels) - 5 - ribs}L"
        yield measured(name, render(phantom, scan), truth_in_view(phantom, scan), models)


def print_outcomes(title: str, outcomes: Sequence[Outcome]) -> None:
    """One line a scan, then all together and the reliability of the names."""
    print(f"\n{title}")
    rights, sures = [], []
    for one in outcomes:
        given = np.array([level is not None for level in one.said])
        right = np.array([a == b for a, b in zip(one.said, one.true, strict=True)])
        rights.append(right[given])
        sures.append(one.sure[given])
        wrong = " ".join(f"{b}>{a}" for a, b in zip(one.said, one.true, strict=True) if a not in (None, b))
        print(
            f"{one.scan:34} right {right[given].sum():3} wrong {(~right[given]).sum():3} none {(~given).sum():3} "
            f"missed {one.missed:2} other {one.unmatched:2}  {wrong}"
        )
    right, sure = np.concatenate(rights), np.concatenate(sures)
    scans = sum(bool(len(r)) for r in rights)
    print(
        f"names {len(right)}, right {right.mean():.3f}, without a name "
        f"{sum(len(o.said) for o in outcomes) - len(right)}; scans with names {scans}, with a wrong one "
        f"{sum(not r.all() for r in rights)}"
    )
    for low, high, count, mean, share in reliability(right, sure):
        print(f"  {low:.2f}-{high:.2f}  n {count:4}  said {mean:.3f}  right {share:.3f}")


def fitted(cases: Sequence[Case]) -> dict[str, float]:
    """Log loss of every trust and doubt."""
    from vertebra_core.settings import LevelSettings

    return {
        f"trust {trust} doubt {doubt}": log_loss(cases, LevelSettings(trust=trust, doubt=doubt))
        for trust in TRUSTS
        for doubt in DOUBTS
    }


def reliability(right: np.ndarray, sure: np.ndarray) -> list[tuple[float, float, int, float, float]]:
    """Rows (from, to, count, mean probability, share right)."""
    rows = []
    for low, high in pairwise(BINS):
        inside = (sure >= low) & (sure < high)
        if inside.any():
            rows.append(
                (low, min(high, 1.0), int(inside.sum()), float(sure[inside].mean()), float(right[inside].mean()))
            )
    return rows


def print_cases(title: str, cases: Sequence[Case], settings: "LevelSettings") -> None:
    """Right, wrong and unnamed of each case, and the reliability of all names."""
    print(f"\n{title}")
    rights, sures = [], []
    for case in cases:
        path, sure, _ = named(case, settings)
        right = np.array([a == b for a, b in zip(path, case.names, strict=True)])
        given = sure >= settings.min_confidence
        rights.append(right)
        sures.append(sure)
        print(
            f"{case.patient:24} {case.view:14} right {int((right & given).sum()):3} wrong "
            f"{int((~right & given).sum()):3} none {int((~given).sum()):3}  "
            f"{path[0]}-{path[-1]} for {case.names[0]}-{case.names[-1]}  {sure.min():.2f}-{sure.max():.2f}"
        )
    right, sure = np.concatenate(rights), np.concatenate(sures)
    given = sure >= settings.min_confidence
    named_share, named_right, all_right = given.mean(), right[given].mean(), right.mean()
    print(f"named {named_share:.3f} of {len(given)}; of these right {named_right:.3f}; of all right {all_right:.3f}")
    for low, high, count, mean, share in reliability(right, sure):
        print(f"  {low:.2f}-{high:.2f}  n {count:4}  said {mean:.3f}  right {share:.3f}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, name, print."""
    import torch

    from vertebra_core.models import load_models
    from vertebra_core.settings import LevelSettings
    from vertebra_core.training.real import annotated_volumes

    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("training"))
    parser.add_argument("--phantoms", type=int, default=36)
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    networks, models = fold_networks(asked.images, asked.annotations, asked.work), load_models()
    cases: list[Case] = []
    unseen, seen = [], []
    for patient, volume, truth in annotated_volumes(asked.images, asked.annotations):
        cases += cases_of(patient, volume, truth, networks[patient])
        unseen.append(measured(patient, volume, truth, replace(models, levels=networks[patient])))
        seen.append(measured(patient, volume, truth, models))
    losses = fitted(cases)
    print(json.dumps(dict(sorted(losses.items(), key=lambda item: item[1])[:12]), indent=1))
    settings = LevelSettings()
    print_cases("Patients left out, whole scans", [c for c in cases if c.view == "whole"], settings)
    print_cases("Patients left out, parts of scans", [c for c in cases if c.view != "whole"], settings)
    print_outcomes("The whole method, levels by networks that did not see the patient", unseen)
    print_outcomes("The whole method, shipped weights (which learned from these patients)", seen)
    print_outcomes("The whole method on phantoms", list(phantoms_measured(asked.phantoms, models)))


if __name__ == "__main__":
    main()
