"""The optimiser settings of the paper (section 5.1), for the same networks and the same loops as ours."""

from typing import Any

from vertebra_core.training.curve import CurveTraining

CURVE = CurveTraining(steps=10_000, batch=3, rate=1e-3, decays=False)
"""Adam with default betas, rate 1e-3 throughout, 10k batches of 3."""
DETECTOR: dict[str, Any] = {"batch": 30, "learning_rate": 1e-4, "weight_decay": 0.0, "halve_at": (1000, 1400, 2000)}
"""4k batches of 30, rate 1e-4, halved after 1k, 1.4k and 2k; without weight decay AdamW is Adam."""
