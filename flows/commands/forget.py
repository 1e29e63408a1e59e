"""``vertebra forget``: take a patient out of a cohort."""

from typing import Annotated

from cyclopts import Parameter


def forget(
    cohort: str,
    patient: str,
    /,
    *,
    yes: Annotated[bool, Parameter(negative="")] = False,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Take a patient out of a cohort: results, pictures, log lines, inventory, links. It cannot be undone.

    All snapshots are removed, since each holds the patient; `vertebra screen` publishes a new one. Delete the scans
    in the archive first, or it brings the patient back.

    Example: vertebra forget spines pt0123456789abcdef0123 --yes

    Parameters
    ----------
    cohort
        The cohort: a folder or an s3:// URL.
    patient
        Key of the patient: column patient_key of private/links.parquet, where authorised staff look it up.
    yes
        Do it; without, only say what would be done.
    as_json
        Print one JSON document.
    """
    import secrets

    from flows.printing import print_json
    from tasks.clock import now, seconds_since_epoch
    from vertebra_core.cohort.forget import forget as take_out
    from vertebra_core.cohort.forget import known_of
    from vertebra_core.cohort.layout import open_layout, run_name
    from vertebra_core.cohort.lock import release_lock, take_lock

    layout = open_layout(cohort)
    known = known_of(layout, patient)
    if yes:
        run = run_name(now(), secrets.token_hex(2))
        take_lock(layout, run, seconds_since_epoch())
        try:
            take_out(layout, patient)
        finally:
            release_lock(layout, run)
    if as_json:
        print_json({"patient": patient, "done": yes, "studies": len(known.studies), "series": len(known.series)})
        return
    what = f"{patient}: {len(known.studies)} studies, {len(known.series)} series, and all snapshots"
    if yes:
        print(f"{what}: removed; `vertebra screen` publishes a new snapshot")
        print("It brings the patient back if the scans are still in the archive.")
    else:
        print(f"{what}: would be removed for good; --yes does it")
