"""``vertebra retry``: let the next run try again what was given up."""

from typing import Annotated

from cyclopts import Parameter

from flows.printing import print_json


def retry(
    cohort: str,
    *,
    reason: Annotated[list[str], Parameter(negative="")] = [],  # noqa: B006
    study: Annotated[list[str], Parameter(negative="")] = [],  # noqa: B006
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Let the next run try studies again that were given up, or refused for something that was mended since.

    A study that killed its process, exceeded its deadline or its memory, or met an unforeseen error is left alone by
    all later runs. This makes it due again, once; its old row is shown until the new one is there. New networks or
    other settings make every study due anyway, and so does a changed file.

    Example: vertebra retry spines --reason deadline --reason out_of_memory

    Example: vertebra retry spines --reason decoder_missing --dry-run

    Parameters
    ----------
    cohort
        The cohort: a folder or an s3:// URL.
    reason
        Reason code, may be repeated: also of refusals, such as unreadable, pixels_damaged, missing_slices or
        decoder_missing. Without any: worker_died, deadline, out_of_memory and failed.
    study
        Key of a study (or of a further series), may be repeated.
    dry_run
        Only say what would be tried again.
    as_json
        Print one JSON document.
    """
    import secrets
    from collections import Counter

    from tasks.clock import now
    from vertebra_core.cohort.layout import open_layout, run_name
    from vertebra_core.cohort.retries import lift, to_lift, unmeasured

    layout = open_layout(cohort)
    lifted = to_lift(unmeasured(layout), reason, study)
    if lifted and not dry_run:
        made = now()
        lift(layout, lifted, run_name(made, secrets.token_hex(2)), made)
    counts = dict(sorted(Counter(one.reason for one in lifted).items()))
    if as_json:
        studies = [{"key": one.key, "reason": one.reason} for one in lifted]
        print_json({"lifted": counts, "studies": studies, "dry_run": dry_run})
    elif not lifted:
        print("nothing to lift: no study was given up for such a reason, or all are due already")
    else:
        what = ", ".join(f"{count} {code}" for code, count in counts.items())
        print(f"{what}: {'would be' if dry_run else 'will be'} tried again by the next run")
