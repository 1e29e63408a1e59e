"""``vertebra runs``: past runs of a cohort, and one of them in detail."""

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from flows.printing import ABSENT, number, print_json, print_table

if TYPE_CHECKING:
    from tasks.history import RunDetail, RunState

RUN_COLUMNS = ["run", "state", "started", "took", "seen", "measured", "refused", "failed", "left", "new", "per hour"]


def runs(
    cohort: str,
    run: str | None = None,
    /,
    *,
    newest: int = 20,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Past runs of a cohort; with the name of one, its shards, slowest studies, failures and what changed before it.

    Example: vertebra runs spines

    Example: vertebra runs spines 20261128T210409-a3f1

    Parameters
    ----------
    cohort
        The cohort: a folder or an s3:// URL.
    run
        Look into this one.
    newest
        How many to list.
    as_json
        Print one JSON document.
    """
    from tasks.history import run_detail, run_states
    from vertebra_core.cohort.layout import open_layout
    from vertebra_core.storage import answering

    with answering(cohort):
        layout = open_layout(cohort)
        if run is not None:
            detail = run_detail(layout, run)
        else:
            states = run_states(layout, newest)
    if run is None:
        if as_json:
            print_json({"runs": states})
        else:
            text = ["state", "started"]
            print_table(f"Runs of {cohort}", RUN_COLUMNS, [run_row(one) for one in states], text=text)
    elif as_json:
        print_json(detail)
    else:
        _print_detail(detail)


def run_row(one: "RunState") -> list[str]:
    """A run as a line of a table."""
    from flows.progress import duration

    took = duration(one.seconds) if one.seconds is not None else ABSENT
    counts = [str(one.record.get(name, ABSENT)) for name in ("seen", "measured", "refused", "failed", "left")]
    state = one.state if one.kind != "inventory" else f"{one.state} (inventory)"
    new = str(sum(one.new.values())) if one.ended else ABSENT
    return [one.run, state, one.started, took, *counts, new, number(one.studies_per_hour, 0)]


def _print_detail(detail: "RunDetail") -> None:
    state = detail.state
    print_table(f"Run {state.run}", RUN_COLUMNS[1:], [run_row(state)[1:]], text=["started"])
    print_table("How", ["", "value"], _facts(detail), text=["value"])
    shards = [
        [one["shard"], one["worker"], str(sum(one["by_status"].values())), number(one["seconds"], 1)]
        for one in detail.shards
    ]
    print_table(f"Shards ({len(shards)})", ["shard", "worker", "studies", "seconds"], shards, text=["worker"])
    if detail.lost:
        lost = [
            [one["time"], one["event"], str(one.get("shard", "")), str(one.get("error", ""))] for one in detail.lost
        ]
        print_table("Lost", ["time", "event", "shard", "error"], lost, text=["event", "shard", "error"])
    slowest = [
        [one.get("series_key", one["study_key"]), number(one["seconds"], 1), _stages(one["by_stage"])]
        for one in detail.slowest
    ]
    print_table("Slowest studies", ["key", "seconds", "by stage"], slowest, text=["by stage"])
    if detail.failures:
        print_table("Failures", ["key", "reason"], [list(one) for one in detail.failures], text=["reason"])
    for what, changes in (("Settings", detail.settings_changed), ("Versions", detail.versions_changed)):
        if changes:
            rows = [[name, str(before), str(now)] for name, (before, now) in changes.items()]
            print_table(f"{what} that changed since {detail.before}", ["name", "before", "now"], rows, text=["now"])


def _facts(detail: "RunDetail") -> list[list[str]]:
    from flows.commands.status import sentinel_line

    record = detail.state.record
    owner = record["owner"]
    rows = [["process", f"{owner['pid']} on {owner['host']}"]]
    if record.get("took_over"):
        dead = record["took_over"]
        rows.append(["took over", f"run {detail.took_over or ABSENT} (process {dead['pid']} on {dead['host']}, dead)"])
    for name in ("profile", "runner", "workers", "method", "model_digest", "settings_digest", "snapshot", "published"):
        if name in record:
            rows.append([name, str(record[name])])
    for name in ("error", "left_why"):
        if record.get(name):
            rows.append([name, str(record[name])])
    if record.get("sentinels"):
        rows.append(["sentinels", sentinel_line(record["sentinels"])])
    rows.append(["versions", ", ".join(f"{name} {version}" for name, version in record.get("versions", {}).items())])
    return rows


def _stages(by_stage: dict[str, float]) -> str:
    return ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in by_stage.items())
