"""``vertebra sentinel``: the studies that every run measures again."""

from typing import Annotated

from cyclopts import Parameter


def sentinel(
    cohort: str,
    /,
    *,
    choose: int | None = None,
    keys: Annotated[list[str] | None, Parameter(negative="", consume_multiple=True)] = None,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """The sentinel studies of a cohort: every run measures them again and compares heights with their first result.

    Without an option, show them and how they stand. A run in which one of them drifts is marked and ends with exit
    code 1 (docs/observability.md).

    Example: vertebra sentinel spines --choose 5

    Parameters
    ----------
    cohort
        The cohort: a folder or an s3:// URL.
    choose
        Choose so many among the measured studies of the newest snapshot, of all scanners in turn; 0: none any more.
    keys
        Choose these study keys.
    as_json
        Print one JSON document.
    """
    from flows.commands.status import sentinel_line
    from flows.printing import number, print_json, print_table
    from tasks.sentinel import chosen_sentinels, sentinels_now
    from vertebra_core.cohort.layout import open_layout
    from vertebra_core.cohort.sentinels import write_keys
    from vertebra_core.storage import answering

    with answering(cohort):
        layout = open_layout(cohort)
        if choose is not None or keys is not None:
            write_keys(layout, chosen_sentinels(layout, choose, keys))
        now = sentinels_now(layout)
    if as_json:
        print_json(now)
        return
    newest = now["newest"]
    print(f"newest comparison: run {newest['run']}, {sentinel_line(newest)}" if newest else "not compared yet")
    columns = ["study_key", "outcome", "worst mm", "reference", "why"]
    rows = [
        [one["study_key"], one["outcome"], number(one["worst_mm"], 4), one["reference"], one["why"]]
        for one in now["studies"]
    ]
    print_table(f"Sentinel studies of {cohort} ({len(rows)})", columns, rows, text=["outcome", "reference", "why"])
