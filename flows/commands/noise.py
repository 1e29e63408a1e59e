"""``vertebra noise``: how noisy heights are, from two cohorts of the same patients."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from flows.printing import print_json, print_table

if TYPE_CHECKING:
    from vertebra_core.epidemiology.noise_model import NoiseModel
    from vertebra_core.epidemiology.noise_pairs import Pairs


def noise(
    first: str,
    second: str,
    *,
    match: Literal["place", "level"] = "place",
    same: Literal["study", "patient"] = "study",
    source: str = "two cohorts of the same patients",
    out: Path | None = None,
    seed: int = 0,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Measure the noise of the heights from replicate reads: two cohorts of the same patients, by the same networks.

    Writes noise.json into the first cohort; `vertebra prevalence --noise own` corrects with it.
    Screen the second cohort from other reconstructions of the same studies, or from other scans of the patients, with
    the same VERTEBRA_PSEUDONYM_SECRET. 40 patients or more are asked for; docs/noise.md says why.

    Example: vertebra noise spines spines-again

    Parameters
    ----------
    first, second
        The cohorts, already screened: folders or s3:// URLs.
    match
        By place: the same vertebra lies in the same place (other series of one study). By level: it has the same name
        (another scan of the patient).
    same
        Compare equal studies, or the index studies of equal patients.
    source
        What was read twice, in words; kept in the file.
    out
        Write here instead.
    seed
        Of the random draws.
    as_json
        Print one JSON document.
    """
    import numpy as np

    from vertebra_core.cohort.layout import open_layout
    from vertebra_core.epidemiology.noise_model import NOISE_FILE, NoiseModel, write_noise
    from vertebra_core.epidemiology.noise_pairs import fit_by_slices, paired_reads
    from vertebra_core.errors import WrongUse

    digests, tables = zip(*(_read(cohort, match, same) for cohort in (first, second)), strict=True)
    if digests[0] != digests[1]:
        raise WrongUse(f"the cohorts were measured with different networks: {digests[0]} and {digests[1]}")
    pairs = paired_reads(*tables, same=f"{same}_key", match=match)
    classes = fit_by_slices(pairs, np.random.default_rng(seed))
    found = NoiseModel(datetime.now(UTC).date().isoformat(), digests[0], source, classes)
    path = out or open_layout(first).root / NOISE_FILE
    write_noise(path, found)
    if as_json:
        print_json({"file": str(path), "pairs": len(pairs.reads.patient), "left_out": pairs.n_misnamed, **_said(found)})
        return
    _print(found, pairs)
    print(f"Written to {path}.")


def _read(cohort: str, match: str, same: str):
    """Digest of the networks of the newest snapshot, and its vertebrae and studies."""
    from vertebra_core.cohort.layout import open_layout
    from vertebra_core.cohort.snapshot import latest_snapshot
    from vertebra_core.epidemiology.noise_model import digest_of
    from vertebra_core.epidemiology.noise_pairs import NEEDED, PLACE_COLUMNS
    from vertebra_core.tables.parquet import read_table

    snapshot = latest_snapshot(open_layout(cohort))
    columns = [*NEEDED, *(PLACE_COLUMNS if match == "place" else ())]
    bones = read_table(snapshot / "vertebrae.parquet", columns=columns)
    studies = read_table(snapshot / "studies.parquet", columns=["study_key", "slice_spacing_mm"])
    if same == "patient":
        import pyarrow.compute as pc

        index = read_table(snapshot / "patients.parquet", columns=["index_study_key"])["index_study_key"]
        bones = bones.filter(pc.field("study_key").isin(index.drop_null().combine_chunks()))
    return digest_of(snapshot), (bones, studies)


def _said(found: "NoiseModel") -> dict:
    return {
        "measured_on": found.measured_on,
        "model_digest": found.model_digest,
        "classes": [
            {
                "slices_up_to_mm": one.slices_up_to_mm,
                "n_patients": one.fitted.n_patients,
                "n_vertebrae": one.fitted.n_vertebrae,
                "covariance_mm2": one.covariance,
                "bias_mm": one.fitted.bias_mm,
            }
            for one in found.classes
        ],
    }


def _print(found: "NoiseModel", pairs: "Pairs") -> None:
    import numpy as np

    from vertebra_core.epidemiology.noise_model import ASKED_PATIENTS

    print(f"{len(pairs.reads.patient)} vertebrae measured in both, of {pairs.n_first} and {pairs.n_second}.")
    if pairs.n_misnamed:
        print(f"{pairs.n_misnamed} patients left out: their levels are named differently in the two.")
    rows = []
    for one in found.classes:
        sd, shared = np.sqrt(np.diag(one.covariance)), np.median(one.fitted.shared, 0)
        part = np.trace(shared) / np.trace(one.covariance)
        bias = one.fitted.bias_mm[1] - one.fitted.bias_mm[0]
        rows.append(
            [
                "any" if one.slices_up_to_mm is None else f"up to {one.slices_up_to_mm:.1f} mm",
                str(one.fitted.n_patients),
                str(one.fitted.n_vertebrae),
                f"{sd[0]:.2f} / {sd[1]:.2f}",
                f"{100 * part:.0f} %",
                f"{np.median(one.fitted.freedom):.0f}",
                f"{bias[0]:+.2f} / {bias[1]:+.2f}",
            ]
        )
    columns = [
        "slices",
        "patients",
        "vertebrae",
        "SD of ha-hp / hm-hp, mm",
        "shared",
        "tails (nu)",
        "second - first, mm",
    ]
    print_table("Noise of one measurement", columns, rows)
    if found.n_patients < ASKED_PATIENTS:
        print(f"{found.n_patients} patients are few: {ASKED_PATIENTS} are asked for, and the file says so.")
