"""``vertebra status``: where a cohort stands."""

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from flows.printing import print_json, print_table

if TYPE_CHECKING:
    from tasks.history import RunState
    from tasks.report import CohortState


def status(
    cohort: str,
    *,
    runs: int = 5,
    prometheus: Annotated[bool, Parameter(negative="")] = False,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Where a cohort stands: studies done, failed, refused and due, the run under way, sentinels, the latest runs.

    Example: vertebra status spines

    Example: vertebra status spines --prometheus > /var/lib/node_exporter/vertebra.prom

    Parameters
    ----------
    cohort
        The cohort: a folder or an s3:// URL.
    runs
        How many runs to list, the newest first. A run whose process is gone without an end is dead; the next
        `vertebra screen` goes on where it stopped.
    prometheus
        Print Prometheus text (docs/observability.md).
    as_json
        Print one JSON document.
    """
    from tasks.report import cohort_state, shortened
    from vertebra_core.cohort.layout import open_layout
    from vertebra_core.storage import answering

    with answering(cohort):
        state = cohort_state(open_layout(cohort))
    if prometheus:
        from tasks.metrics import exposition

        print(exposition(state), end="")
    elif as_json:
        print_json(_document(shortened(state, runs)))
    else:
        _print_studies(cohort, state)
        _print_facts(state)
        _print_runs(state.runs[:runs])


def _document(state: "CohortState") -> dict:
    from dataclasses import asdict

    counts = {"done": state.done, "failed": state.failed, "refused": state.refused, "quarantined": state.quarantined}
    progress = None
    if state.progress:
        told = state.progress
        progress = {**asdict(told), "studies_per_hour": told.studies_per_hour, "seconds_left": told.seconds_left}
    runs = [{name: value for name, value in asdict(one).items() if name != "record"} for one in state.runs]
    running = state.running.run if state.running else None
    return {**asdict(state), **counts, "progress": progress, "runs": runs, "running": running}


def _print_studies(cohort: str, state: "CohortState") -> None:
    from flows.progress import duration
    from vertebra_core.errors import Reason

    if state.snapshot is None:
        print(f"Cohort {cohort}: nothing published yet")
        return
    age = f", published {duration(state.snapshot_age_s)} ago" if state.snapshot_age_s is not None else ""
    print(f"Cohort {cohort}: snapshot {state.snapshot}{age}")
    rows = [[f"{name} (rows)", str(count)] for name, count in state.published["rows"].items()]
    by_status = [[status, str(sum(reasons.values()))] for status, reasons in state.outcomes.items()]
    total = sum(sum(reasons.values()) for reasons in state.outcomes.values())
    print_table(f"Studies ({total}) and rows", ["", "n"], [*by_status, *rows])
    sentences = {reason.code: reason.sentence for reason in Reason}
    reasons = [
        [status, code, str(count), sentences.get(code, "")]
        for status, by_reason in state.outcomes.items()
        for code, count in by_reason.items()
        if code != "ok"
    ]
    if reasons:
        columns = ["status", "reason", "n", "what it means"]
        print_table("Why a study is not ok", columns, reasons, text=["reason", "what it means"])


def _print_facts(state: "CohortState") -> None:
    rows = [["due", "unknown: no run has planned yet" if state.due is None else f"{state.due} studies"]]
    rows.append(["under way", _under_way(state)])
    lifted = f"; {state.lifted} more are tried again by the next run" if state.lifted else ""
    rows.append(["quarantined", f"{state.quarantined} studies: tried again after `vertebra retry`{lifted}"])
    rows.append(["sentinels", sentinel_line(state.sentinels)])
    rows.append(["lock", lock_line(state.holder)])
    rows.append(["last success", state.last_success or "none in the runs that were read"])
    if state.free_bytes is not None:
        rows.append(["free disk", f"{state.free_bytes / 1024**3:.0f} GiB"])
    print_table("Now", ["", "state"], rows, text=["state"])


def _under_way(state: "CohortState") -> str:
    from flows.progress import duration

    if state.running is None:
        return "nothing"
    if state.progress is None:
        return f"run {state.running.run}, taking stock"
    told = state.progress
    rate = f", {told.studies_per_hour:.0f} an hour" if told.studies_per_hour else ""
    left = f", {duration(told.seconds_left)} left" if told.seconds_left is not None else ""
    return f"run {state.running.run}: {told.done} of {told.total} studies{rate}{left} (counted {told.time})"


def sentinel_line(sentinels: dict) -> str:
    """What the newest comparison of the sentinel studies says, in one line."""
    if not sentinels or not sentinels["counts"]:
        return "none compared yet (vertebra sentinel chooses some)"
    counts = ", ".join(f"{count} {name}" for name, count in sentinels["counts"].items())
    worst = sentinels["worst_mm"]
    off = f"; largest difference {worst:.3f} mm of {sentinels['tolerance_mm']:g} allowed" if worst is not None else ""
    return f"{sentinels['verdict']}: {counts}{off}"


def lock_line(holder) -> str:
    """Who holds the cohort, in one line."""
    if holder is None:
        return "free"
    alive = {True: "alive", False: "dead: the next run takes over", None: "cannot be seen from here"}
    owner = holder.owner
    who = f"process {owner.pid} on {owner.host}, {alive[owner.is_alive()]}"
    return f"run {holder.run} ({who}), renewed {holder.age_s:.0f} s ago"


def _print_runs(runs: "tuple[RunState, ...]") -> None:
    from flows.commands.runs import RUN_COLUMNS, run_row

    print_table(f"Runs ({len(runs)} newest)", RUN_COLUMNS, [run_row(one) for one in runs], text=["state", "started"])
