"""How long a study takes here, by what earlier runs of the cohort measured; shards are cut by it."""

from statistics import median

import pyarrow.compute as pc

from vertebra_core.cohort.layout import Layout
from vertebra_core.cohort.ledger import MethodIdentity, marks, of_method, read_mark

SECONDS_PER_SLICE = 0.1
"""Where nothing has been measured yet. Real CT of 112 to 252 slices took 0.04 to 0.08 s a slice on a free core and, in
the median of 15 scans, 0.2 s on two cores with fifteen jobs; most of it was reading and the centre line."""
MARKS_ASKED = 20
"""The newest committed shards that are read for it: some hundred studies, and no more requests to a store than that."""
PACE_COLUMNS = ["model_digest", "settings_digest", "schema_version", "status", "n_slices", "seconds_total"]
FEWEST_STUDIES = 5
"""Of fewer studies a median says too little: one of them may have waited for the networks to be loaded."""


def seconds_per_slice(layout: Layout, identity: MethodIdentity) -> float:
    """Median seconds for each slice of the studies that this method measured last, on whatever machine that was.

    Parameters
    ----------
    layout : Layout
    identity : MethodIdentity

    Returns
    -------
    float
        `SECONDS_PER_SLICE` where fewer than `FEWEST_STUDIES` were measured.
    """
    paces = []
    for mark in marks(layout)[-MARKS_ASKED:]:
        rows = of_method(read_mark(mark, PACE_COLUMNS), identity)
        rows = rows.filter((pc.field("n_slices") > 0) & (pc.field("seconds_total") > 0))
        paces += pc.divide(rows["seconds_total"], rows["n_slices"].cast("float64")).to_pylist()
    return median(paces) if len(paces) >= FEWEST_STUDIES else SECONDS_PER_SLICE
