"""``vertebra status``: where a cohort stands."""

from typing import Annotated

from cyclopts import Parameter

from flows.printing import print_json, print_table


def status(
    cohort: str, *, runs: int = 5, as_json: Annotated[bool, Parameter(name="--json", negative="")] = False
) -> None:
    """Where a cohort stands: published studies by outcome, and its latest runs.

    Example: vertebra status spines

    Parameters
    ----------
    cohort
        The cohort: a folder or an s3:// URL.
    runs
        How many runs to list, the newest first. A run whose process is gone without an end is dead; the next
        `vertebra screen` goes on where it stopped.
    as_json
        Print one JSON document.
    """
    from tasks.report import cohort_state
    from vertebra_core.cohort.layout import open_layout

    state = cohort_state(open_layout(cohort))
    if as_json:
        print_json({"snapshot": state.snapshot, "published": state.published, "runs": state.runs[:runs]})
        return
    if state.snapshot is None:
        print(f"Cohort {cohort}: nothing published yet")
    else:
        _print_published(cohort, state.snapshot, state.published)
    lines = [[one.run, one.state, one.started, one.ended or "", _counts(one.new)] for one in state.runs[:runs]]
    columns = ["run", "state", "started", "ended", "studies"]
    print_table(f"Runs ({len(state.runs)})", columns, lines, text=columns)


def _print_published(cohort: str, snapshot: str, published: dict) -> None:
    from vertebra_core.errors import Reason

    print(f"Cohort {cohort}: snapshot {snapshot}, published {published['published']}")
    if published["studies_still_due"]:
        print(f"{published['studies_still_due']} studies were still due then: run `vertebra screen` again")
    by_status = [[name, str(count)] for name, count in published["studies_by_status"].items()]
    rows = [[f"{name} (rows)", str(count)] for name, count in published["rows"].items()]
    print_table(f"Studies ({published['studies']}) and rows", ["", "n"], [*by_status, *rows])
    sentences = {reason.code: reason.sentence for reason in Reason}
    reasons = [[code, str(count), sentences.get(code, "")] for code, count in published["studies_by_reason"].items()]
    if reasons:
        print_table("Why a study is not ok", ["reason", "n", "what it means"], reasons, text=["what it means"])


def _counts(new: dict[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in new.items())
