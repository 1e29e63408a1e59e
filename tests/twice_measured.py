"""Tables of two cohorts that measured the same made spines."""

import numpy as np
import pyarrow as pa

from benchmarks.noise_cases import VIEW, Reading, make_spines, read_heights
from vertebra_core.epidemiology.noise_pairs import PLACE_COLUMNS


def two_cohorts(n: int, seed: int, how: Reading = Reading(), rename=None, lose=0):  # noqa: B008 - frozen
    """Tables of two cohorts of the same spines; the second renames levels of some patients and loses vertebrae."""
    rng = np.random.default_rng(seed)
    spines = make_spines(n, rng)
    centres = np.stack([np.zeros(len(spines.level)), rng.normal(0, 2, len(spines.level)), -25.0 * spines.level], 1)
    cohorts = []
    for number in range(2):
        heights = read_heights(spines, rng, how)
        level = [VIEW[i] for i in spines.level]
        if number == 1 and rename:
            level = [rename(p, i) for p, i in zip(spines.patient, spines.level, strict=True)]
        place = centres + rng.normal(0, 1, centres.shape)
        columns = {name: place[:, "xyz".index(name[-4])] for name in PLACE_COLUMNS}
        bones = pa.table(
            {
                "study_key": [f"s{p:03d}" for p in spines.patient],
                "patient_key": [f"p{p:03d}" for p in spines.patient],
                "level": pa.array(level, pa.string()),
                **dict(zip(("ha_mm", "hm_mm", "hp_mm"), heights.T, strict=True)),
                **columns,
            }
        )
        order = rng.permutation(len(bones))[lose * number :]
        studies = pa.table({"study_key": [f"s{p:03d}" for p in range(n)], "slice_spacing_mm": [1.0 + number] * n})
        cohorts.append((bones.take(order), studies))
    return spines, *cohorts
