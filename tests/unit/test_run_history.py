"""Past runs as their records tell them, and the state of a cohort as Prometheus reads it."""

import json
import re
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import yaml
from botocore.exceptions import EndpointConnectionError
from prometheus_client.parser import text_string_to_metric_families

from flows.cli import DONE, main
from tasks.history import run_detail, run_states
from tasks.metrics import METRICS, exposition, table
from tasks.progress import Progress, Teller, read_progress
from tasks.record import add_to_record, begin_record, end_record, stop_record
from tasks.report import CohortState, cohort_state
from vertebra_core.cohort.commit import create
from vertebra_core.cohort.layout import Layout
from vertebra_core.cohort.lock import Owner, take_lock, this_process
from vertebra_core.errors import CouldNotRun, WrongUse

DEAD = replace(this_process(), pid=2**22 + 1)  # beyond the largest process number of Linux
ELSEWHERE = Owner("another-machine", "its boot/pid:[1]", 7, 1.0)
SETTLED = {"seen": 9, "measured": 7, "refused": 1, "failed": 1, "left": 0, "new": {"ok": 3, "worker_died": 1}}


def write_run(layout: Layout, run: str, owner: Owner | None = None, **more: object) -> None:
    """A record, as by a process of an owner, with other times than now."""
    begin_record(layout, run)
    add_to_record(layout, run, started="2026-11-28T21:00:00+00:00", **more)
    if owner is not None:
        add_to_record(layout, run, owner=asdict(owner))


@pytest.fixture
def layout(tmp_path) -> Layout:
    for number in range(7):
        (tmp_path / "logs" / f"run-{number}").mkdir(parents=True)
    return Layout(tmp_path)


def test_a_run_is_ended_stopped_running_or_dead(layout):
    write_run(layout, "run-0", kind="screen", ended="2026-11-28T22:30:00+00:00", **SETTLED)
    write_run(layout, "run-1", kind="screen")
    stop_record(layout, "run-1", CouldNotRun("Doe^Jane could not be read"))
    write_run(layout, "run-2", DEAD)
    write_run(layout, "run-3", ELSEWHERE)  # nobody holds the cohort for it: its lease is over
    write_run(layout, "run-4")
    states = {one.run: one for one in run_states(layout)}
    assert [states[f"run-{n}"].state for n in range(5)] == ["ended", "stopped", "dead", "dead", "running"]
    assert list(states) == ["run-4", "run-3", "run-2", "run-1", "run-0"]  # newest first; two without a record
    assert states["run-0"].seconds == 5400
    assert states["run-0"].studies_per_hour == pytest.approx(4 / 1.5)
    assert states["run-1"].record["error"] == "CouldNotRun"
    assert "Doe" not in layout.run_record("run-1").read_text()
    assert [one.run for one in run_states(layout, newest=4)] == ["run-4", "run-3"]


def test_a_run_on_another_host_is_alive_while_it_holds_the_cohort(layout):
    write_run(layout, "run-3", ELSEWHERE)
    take_lock(layout, "run-3", 0.0)
    lock = json.loads(layout.lock.read_text())
    for renewed, state in ((lock["renewed"] + 4e9, "on another host"), (0.0, "dead")):
        layout.lock.write_text(json.dumps({**lock, "owner": asdict(ELSEWHERE), "renewed": renewed}))
        assert [one.state for one in run_states(layout)] == [state]
        assert (cohort_state(layout).running is None) == (state == "dead")


def test_one_run_in_detail(layout):
    settings = {"run.workers": 2, "run.device": "cpu"}
    write_run(layout, "run-0", DEAD, kind="screen", settings=settings)
    write_run(layout, "run-1", kind="inventory")
    begin_record(layout, "run-2", dead=DEAD)
    add_to_record(layout, "run-2", kind="screen", settings={**settings, "run.workers": 4}, failures=[["st1", "failed"]])
    add_to_record(layout, "run-2", versions={"torch": "9.9"})
    end_record(layout, "run-2")
    events = [
        {"event": "shard_started", "shard": "00000", "studies": 2, "worker": "here:1"},
        {"event": "study_done", "study_key": "st1", "status": "ok", "reason": None, "seconds": 2.0, "by_stage": {}},
        {"event": "study_done", "study_key": "st2", "status": "ok", "reason": None, "seconds": 7.0, "by_stage": {}},
        {"event": "shard_lost", "shard": "00000", "error": "KilledWorker", "tries": 1},
        {"event": "shard_started", "shard": "00000", "studies": 2, "worker": "here:2"},
        {"event": "shard_committed", "shard": "00000", "by_status": {"ok": 2}, "seconds": 9.0, "is_first": True},
    ]
    lines = [json.dumps({"time": "2026-11-28T21:00:00+00:00", **event}) for event in events]
    (layout.logs("run-2") / "shard-00000.jsonl").write_text("\n".join(lines) + '\n{"time": "half a li')
    detail = run_detail(layout, "run-2")
    assert (detail.took_over, detail.before) == ("run-0", "run-0")
    assert detail.settings_changed == {"run.workers": [2, 4]}
    assert detail.versions_changed["torch"][1] == "9.9"
    assert [one["study_key"] for one in detail.slowest] == ["st2", "st1"]
    assert [(one["shard"], one["worker"]) for one in detail.shards] == [("00000", "here:2")]
    assert [one["error"] for one in detail.lost] == ["KilledWorker"]
    assert detail.failures == [("st1", "failed")]
    with pytest.raises(WrongUse, match="no run run-9"):
        run_detail(layout, "run-9")


def state_of(place: str, **more: object) -> CohortState:
    """A state in which everything has something to say."""
    quiet = cohort_state(Layout(Path(place)))
    runs = run_states(Layout(Path(place)))
    progress = Progress("2026-11-28T21:10:00+00:00", 600.0, 30, 120, {"ok": 29, "failed": 1})
    outcomes = {"ok": {"ok": 8}, "failed": {"worker_died": 2}}
    published = {"published": "2026-11-28T21:00:00+00:00"}
    sentinels = {"verdict": "drifted", "worst_mm": 0.25, "tolerance_mm": 0.05, "counts": {"drifted": 1}}
    full = {"snapshot": "s", "published": published, "outcomes": outcomes, "due": 90, "progress": progress}
    return replace(quiet, runs=tuple(runs), sentinels=sentinels, last_success=published["published"], **full, **more)


def samples(text: str) -> dict[tuple, float]:
    """What Prometheus' own parser reads: (name, labels) -> value."""
    families = list(text_string_to_metric_families(text))
    assert all(family.documentation and family.type == "gauge" for family in families)
    return {(one.name, *sorted(one.labels.items())): one.value for family in families for one in family.samples}


def test_every_metric_is_read_by_prometheus_own_parser(layout):
    write_run(layout, "run-0", kind="screen", ended="2026-11-28T22:30:00+00:00", **SETTLED)
    state = state_of(str(layout.root))
    found = samples(exposition(state))
    cohort = ("cohort", str(layout.root))
    assert {name for name, *_ in found} == {metric.name for metric in METRICS}
    assert found["vertebra_studies", cohort, ("reason", "worker_died"), ("status", "failed")] == 2
    assert found["vertebra_studies_due", cohort] == 90
    assert found["vertebra_studies_quarantined", cohort] == 2
    assert found["vertebra_run_studies_per_second", cohort] == pytest.approx(30 / 600)
    assert found["vertebra_run_left_seconds", cohort] == pytest.approx(1800)
    assert found["vertebra_sentinel_worst_meters", cohort] == pytest.approx(0.00025)
    assert found["vertebra_sentinel_verdict", cohort, ("verdict", "drifted")] == 1
    assert sum(value for (name, *_), value in found.items() if name == "vertebra_sentinel_verdict") == 1
    assert found["vertebra_snapshot_timestamp_seconds", cohort] == 1795899600  # date -u -d 2026-11-28T21:00 +%s
    assert found["vertebra_last_run_duration_seconds", cohort] == 5400


@pytest.mark.parametrize("name", ['quo"ted', "back\\slash", "two\nlines", "ümlaut", "{curly}=1,"])
def test_labels_are_escaped(tmp_path, name):
    (tmp_path / name).mkdir()
    found = samples(exposition(state_of(str(tmp_path / name))))
    assert {dict(labels)["cohort"] for _, *labels in found} == {str(tmp_path / name)}


def test_a_new_cohort_has_few_metrics_and_no_false_zero(tmp_path):
    names = {name for name, *_ in samples(exposition(cohort_state(Layout(tmp_path))))}
    assert "vertebra_studies_due" not in names
    assert "vertebra_last_success_timestamp_seconds" not in names
    assert "vertebra_run_in_progress" in names


def test_the_page_shows_all_metrics():
    page = (Path(__file__).resolve().parents[2] / "docs" / "observability.md").read_text()
    assert table() in page, "put what `python -m tasks.metrics` prints into docs/observability.md"


# -- progress ---------------------------------------------------------------------------------------------------------


def ended_line(key: str, reason: str | None = None) -> str:
    return json.dumps({"event": "study_done", "study_key": key, "reason": reason}) + "\n"


def test_progress_is_told_at_once_now_and_then_and_at_the_end(layout, monkeypatch):
    clock, told = [100.0], []
    monkeypatch.setattr("tasks.progress.seconds_since_boot", lambda: clock[0])
    teller = Teller(layout, "run-0", 3, lambda: told.append(clock[0]))
    log = layout.logs("run-0") / "shard-00000.jsonl"
    assert teller() == 0
    log.write_text(ended_line("st1"))
    clock[0] += 5.0
    assert (teller(), told) == (1, [100.0])  # counted, but told a moment ago
    clock[0] += 15.0
    assert (teller(), told) == (1, [100.0, 120.0])
    log.write_text(
        ended_line("st1") + ended_line("st2", "deadline") + ended_line("st2", "deadline") + ended_line("st3")
    )
    clock[0] += 1.0
    assert [teller(), teller()] == [3, 3]
    assert told == [100.0, 120.0, 121.0]  # the end is told at once, and once
    found = read_progress(layout, "run-0")
    assert (found.done, found.total, found.seconds, found.by_reason) == (3, 3, 21.0, {"deadline": 1, "ok": 2})
    assert (found.studies_per_hour, found.seconds_left) == (pytest.approx(3 * 3600 / 21), 0.0)
    assert read_progress(layout, "run-1") is None


def test_studies_measured_again_as_sentinels_are_no_progress(layout):
    for shard in ("00000", "other-00000", "sentinel-00000", "00001ab"):
        (layout.logs("run-0") / f"shard-{shard}.jsonl").write_text(ended_line(f"st-of-{shard}"))
    assert Teller(layout, "run-0", 3, lambda: None)() == 3


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), EndpointConnectionError(endpoint_url="s3")])
def test_progress_that_cannot_be_written_stops_nothing(layout, monkeypatch, error):
    def refuse(*given):
        raise error

    monkeypatch.setattr("tasks.progress.replace", refuse)
    assert Teller(layout, "run-0", 3, lambda: None)() == 0
    assert read_progress(layout, "run-0") is None


def test_status_tells_rate_and_time_left_of_the_run_under_way(layout, capsys):
    create(layout.description, b"{}")
    write_run(layout, "run-6", kind="screen", planned={"seen": 200, "due": 120})
    take_lock(layout, "run-6", time.time())
    progress = {
        "time": "2026-11-28T21:10:00+00:00",
        "seconds": 600.0,
        "done": 30,
        "total": 120,
        "by_reason": {"ok": 30},
    }
    layout.progress("run-6").write_text(json.dumps(progress))
    assert main(["status", str(layout.root)]) == DONE
    said = capsys.readouterr().out
    assert "run run-6: 30 of 120 studies, 180 an hour, 30 min left" in said
    assert "due           120 studies" in said
    assert main(["status", str(layout.root), "--json"]) == DONE
    found = json.loads(capsys.readouterr().out)
    assert (found["running"], found["progress"]["studies_per_hour"], found["progress"]["seconds_left"]) == (
        "run-6",
        180,
        1800,
    )


def test_alert_rules_ask_for_metrics_that_there_are():
    rules = yaml.safe_load((Path(__file__).resolve().parents[2] / "deployments/prometheus/alerts.yml").read_text())
    asked = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    names = {name for expression in asked for name in re.findall(r"vertebra_\w+", expression)}
    assert len(asked) >= 5
    assert names <= {metric.name for metric in METRICS}
