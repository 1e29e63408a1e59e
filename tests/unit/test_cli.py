"""The command line: quick help, one line an error, four exit codes, settings from three sources."""

import json
import resource
import subprocess
import sys
import time

import pytest
from made_studies import NORMAL, WEDGE, column, make_cohort, patient_series, result_of

from flows import cli
from flows.cli import COULD_NOT_RUN, DONE, VERBS, WRONG_USE, build_app, explain, main
from flows.progress import watched
from flows.settings import load_settings
from tasks.log import StudiesDone
from tasks.settings import RunSettings
from vertebra_core.errors import CouldNotRun, Reason, WrongUse
from vertebra_core.settings import Settings

HEAVY = {"torch", "prefect", "dask", "distributed", "matplotlib", "statsmodels", "pandas", "scipy", "pyarrow"}


def help_of(words: list[str]) -> list[str]:
    """Heavy modules that ``vertebra WORDS --help`` imports, and its text as the last line's repr."""
    code = (
        "import sys, io, contextlib\nfrom flows.cli import main\nout = io.StringIO()\n"
        f"with contextlib.redirect_stdout(out):\n    main({[*words, '--help']!r})\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)), repr(out.getvalue()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_imports_nothing_heavy():
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    text = help_of([])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert text.startswith("[]")
    assert all(verb in text for verb in [*VERBS, "train"])
    assert after.ru_utime - before.ru_utime < 0.6  # seconds of CPU: the wall clock depends on who else is at work


@pytest.mark.parametrize(
    "words",
    [*([verb] for verb in VERBS), ["train", "curve"], ["train", "keypoints"], ["train", "levels"]],
    ids="-".join,
)
def test_every_verb_explains_itself_with_an_example(words, capsys):
    assert main([*words, "--help"]) == DONE
    text = capsys.readouterr().out
    assert f"Example: vertebra {' '.join(words)}" in " ".join(text.split())


@pytest.mark.parametrize(
    "words",
    [
        ["nosuch"],
        ["screen"],
        ["screen", "archive"],
        ["screen", "archive", "--cohort", "c", "--wrokers", "2"],
        ["screen", "archive", "--cohort", "c", "--workers", "two"],
        ["screen", "no/such/archive", "--cohort", "c"],
        ["screen", ".", "--cohort", "./inside"],
        ["screen", ".", "--cohort", "c", "--profile", "nosuch"],
        ["screen", ".", "--cohort", "c", "--set", "run.wrokers=2"],
        ["screen", ".", "--cohort", "c", "--workers", "-1"],
        ["status", "no/such/cohort"],
        ["tables", "no/such/cohort"],
        ["prevalence", "no/such/cohort"],
        ["phantom", ".", "--studies", "2"],
        ["train", "curve", "--images", "."],
        ["train", "curve", "--phantoms", "0"],
        ["train", "curve", "--phantoms", "1", "--device", "abacus"],
    ],
    ids=" ".join,
)
def test_wrong_use_is_one_line_and_code_2(words, capsys, tmp_path, monkeypatch):
    (tmp_path / "something").touch()
    monkeypatch.chdir(tmp_path)
    assert main(words) == WRONG_USE
    told = capsys.readouterr()
    assert told.err.startswith("vertebra: ")
    assert told.err.count("\n") == 1
    assert not told.out


@pytest.mark.parametrize(
    ("error", "line", "code"),
    [
        (WrongUse("no such\n  folder"), "no such folder", WRONG_USE),
        (CouldNotRun("the disk is full"), "the disk is full", COULD_NOT_RUN),
        (FileNotFoundError(2, "No such file", "x.dcm"), "x.dcm: No such file", COULD_NOT_RUN),
        (KeyboardInterrupt(), "stopped; the same command goes on where it was", COULD_NOT_RUN),
        (ZeroDivisionError("by zero"), "unforeseen ZeroDivisionError: by zero (--debug shows where)", COULD_NOT_RUN),
    ],
)
def test_an_error_becomes_a_line_and_a_code(error, line, code):
    assert explain(error) == (line, code)


def raising(monkeypatch) -> None:
    def fail(*words, **options):
        raise ValueError("deep inside")

    monkeypatch.setattr(cli, "build_app", lambda called: fail)


def test_a_traceback_is_shown_to_those_who_ask(monkeypatch, capsys):
    raising(monkeypatch)
    assert main(["status", "x"]) == COULD_NOT_RUN
    assert "Traceback" not in capsys.readouterr().err
    main(["status", "x", "--debug"])
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.setenv("VERTEBRA_DEBUG", "1")
    main(["status", "x"])
    assert "Traceback" in capsys.readouterr().err


def test_version(capsys):
    assert build_app()(["--version"], exit_on_error=False) is None
    assert capsys.readouterr().out.strip().count(".") == 2


# -- settings -----------------------------------------------------------------------------------------------------


def test_defaults_are_those_of_the_core(monkeypatch):
    monkeypatch.delenv("VERTEBRA_RUN__SETTLE_MINUTES")  # the tests run with 0
    in_force = load_settings()
    assert (in_force.method, in_force.run) == (Settings(), RunSettings())


def test_flags_beat_the_environment_which_beats_the_profile(tmp_path, monkeypatch):
    profile = tmp_path / "mine.toml"
    profile.write_text("[run]\nworkers = 1\nthreads = 1\nshard_size = 1\n[curve]\npresence = 0.7\n")
    monkeypatch.setenv("VERTEBRA_RUN__WORKERS", "2")
    monkeypatch.setenv("VERTEBRA_RUN__THREADS", "2")
    in_force = load_settings(str(profile), {"run.workers": 3, "run.deadline_s": None})
    assert (in_force.run.workers, in_force.run.threads, in_force.run.shard_size) == (3, 2, 1)
    assert in_force.method.curve.presence == 0.7
    assert in_force.run.deadline_s == RunSettings.deadline_s


@pytest.mark.parametrize(
    ("profile", "path"),
    [
        ("[run]\nwrokers = 1", "run.wrokers"),
        ("[rnu]\nworkers = 1", "rnu"),
        ("[run]\nworkers = -1", "run.workers"),
        ("[run]\ndevice = 'abacus'", "run.device"),
        ("[curve]\npresence = 'high'", "curve.presence"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_path(tmp_path, profile, path):
    file = tmp_path / "mine.toml"
    file.write_text(profile)
    with pytest.raises(WrongUse, match=f"setting {path}: "):
        load_settings(str(file))


@pytest.mark.parametrize("variable", ["VERTEBRA_RUN__WROKERS", "VERTEBRA_RNU__WORKERS", "VERTEBRA_WORKERS"])
def test_a_misspelt_variable_is_refused(monkeypatch, variable):
    monkeypatch.setenv(variable, "2")
    with pytest.raises(WrongUse, match=r"wrokers|rnu|VERTEBRA_WORKERS"):
        load_settings()


def test_a_list_may_be_given_in_the_environment(monkeypatch):
    monkeypatch.setenv("VERTEBRA_STRAIGHTEN__PARALLEL_MM", "[-1.5, 0.0, 1.5]")
    assert load_settings().method.straighten.parallel_mm == (-1.5, 0.0, 1.5)


@pytest.mark.parametrize(
    ("n_studies", "seconds_each", "size"),
    [
        (0, 20.0, 1),
        (1, 20.0, 1),
        (18, 20.0, 2),  # 45 s each: four shards for each of two workers
        (400, 20.0, 9),  # 180 s
        (6000, 20.0, 12),  # 240 s: 500 shards
        (100_000, 20.0, 15),  # 300 s: more than 500 shards
        (3, 900.0, 1),  # one study alone is longer than a shard should be
        (800, 0.005, 1000),  # 4 s in all: not worth a second task run
        (100_000, 0.005, 1000),  # no more rows than this in a worker
    ],
)
def test_a_shard_takes_one_to_five_minutes_where_there_is_work_for_all_workers(n_studies, seconds_each, size):
    settings = RunSettings(workers=2)
    assert settings.studies_per_shard(n_studies, n_studies * seconds_each) == size
    assert RunSettings(workers=2, shard_size=7).studies_per_shard(n_studies, n_studies * seconds_each) == 7


# -- status, doctor, progress ---------------------------------------------------------------------------------------


def test_status_says_what_is_published(tmp_path, capsys):
    ends = [result_of(column([NORMAL, WEDGE])), Reason.NO_SPINE]
    make_cohort(tmp_path / "cohort", [(patient_series(i), end) for i, end in enumerate(ends)])
    assert main(["status", str(tmp_path / "cohort"), "--json"]) == DONE
    state = json.loads(capsys.readouterr().out)
    assert state["published"]["studies_by_status"] == {"not_evaluable": 1, "ok": 1}
    assert state["outcomes"] == {"ok": {"ok": 1}, "not_evaluable": {"no_spine": 1}}
    assert (state["done"], state["refused"], state["failed"]) == (1, {"no_spine": 1}, {})
    assert state["runs"] == []
    for words in (["status"], ["status", "--prometheus"], ["runs"], ["runs", "--json"]):
        assert main([words[0], str(tmp_path / "cohort"), *words[1:]]) == DONE


def test_doctor_shows_decoders_and_settings(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("VERTEBRA_RUN__WORKERS", "3")
    main(["doctor", "--json", "--cohort", str(tmp_path / "new")])
    report = json.loads(capsys.readouterr().out)
    checks = {check["what"]: check for check in report["checks"]}
    assert all(
        checks[f"decoder {name}"]["ok"] for name in ("JPEGLosslessSV1", "JPEGLSLossless", "JPEG2000", "RLELossless")
    )
    assert checks["cohort"]["ok"]
    assert report["settings"]["run"]["workers"] == 3


def test_studies_are_counted_once_and_only_when_their_line_is_whole(tmp_path):
    def line(key: str, event: str = "study_done") -> str:
        return json.dumps({"event": event, "study_key": key}) + "\n"

    count, log = StudiesDone(tmp_path), tmp_path / "shard-0.jsonl"
    assert count() == 0
    log.write_text(line("a") + line("b") + line("c", "given_up") + line("c")[:10])
    assert count() == 2
    log.write_text(line("a") + line("b") + line("c", "given_up") + line("c") + line("a"))
    (tmp_path / "shard-1.jsonl").write_text(line("d"))
    assert (count(), count()) == (4, 4)


class Stream:
    def __init__(self, terminal: bool) -> None:
        self.terminal, self.text = terminal, ""

    def isatty(self) -> bool:
        return self.terminal

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        pass


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_says_rate_and_time_left(terminal, monkeypatch):
    monkeypatch.setattr("flows.progress.LINE_SECONDS", 0.05)
    stream = Stream(terminal)
    with watched("studies", 10, lambda: 4, stream):
        time.sleep(0.3)
    assert "studies 4/10" in stream.text
    assert "a minute" in stream.text
    assert "left" in stream.text
    assert terminal or "\x1b" not in stream.text
