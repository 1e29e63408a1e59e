"""Every block of docs/prevalence.md runs on a made cohort; the command's choices reach the estimators."""

import json
import re
import shlex
from pathlib import Path

import pytest
from made_cohorts import make_cohort_tables, write_snapshot

from flows.cli import main

PAGE = Path(__file__).parents[2] / "docs" / "prevalence.md"


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    write_snapshot(folder / "spines", make_cohort_tables(400, seed=1))
    return folder


@pytest.fixture
def ask(place, monkeypatch, capsys):
    """Run a command in the place: exit code, what it printed, what it complained about."""
    monkeypatch.chdir(place)

    def run(words: str) -> tuple[int, str, str]:
        code = main(shlex.split(words))
        return (code, *capsys.readouterr())

    return run


def document(ask, words: str) -> dict:
    code, out, _ = ask(f"prevalence spines {words} --json")
    assert code == 0
    return json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_the_commands_of_the_page_run(ask):
    lines = re.findall(r"^\$ vertebra (.*)$", PAGE.read_text(), re.MULTILINE)
    assert len(lines) == 9
    for line in lines:
        code, out, error = ask(line)
        assert (code, error) == (0, ""), line
        assert "without age" in out or "without_age" in out or "--compare" in line or "explain" in line


def test_the_python_of_the_page_runs(ask):
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict = {"__name__": "page"}
    exec(compile(block, PAGE.name, "exec"), names)
    assert [group.name for group in names["answer"].patients] == ["F", "M", "all"]


def test_json_says_every_choice_and_every_number(ask):
    answer = document(ask, "--by sex --standard who --interval gamma --se 0.9 --sp 0.95 --moderate 0.7")
    assert answer["grading"]["moderate"] == answer["analysis"]["grading"]["moderate"] == 0.7
    assert answer["analysis"]["standard"]["source"].startswith("Ahmad")
    assert answer["analysis"]["standard_interval"] == "gamma"
    assert answer["prevalence"]["standard"]["weights"][0] > 0.2
    woman = answer["prevalence"]["patients"][0]
    assert woman["strata"] == {"sex": "F"}
    assert set(woman["standardised"]) == {"moderate", "severe", "mild"}
    assert woman["corrected"]["method"] == "Rogan-Gladen, wilson"
    assert sum(woman["standardised"]["moderate"]["ns"]) == woman["moderate"]["n"]


def test_the_same_numbers_are_printed(ask):
    group = document(ask, "--by sex")["prevalence"]["patients"][0]["moderate"]
    _, out, _ = ask("prevalence spines --by sex")
    share = f"{100 * group['share']:.1f} ({100 * group['low']:.1f}-{100 * group['high']:.1f})"
    assert re.search(rf"^  F +{group['n']} +{group['count']} +{re.escape(share)}", out, re.MULTILINE)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--by level", "Weighted by inverse coverage"),
        ("--by level", "mean of T4 to L4"),
        ("--by age_band", "Cochran-Armitage"),
        ("--standard us2000", "truncated to the ages studied (50 to 89 in 8 bands"),
        ("--se 0.9 --sp 0.6", "reported as 0"),
        ("--youngest 60 --oldest 69", "of the ages studied"),
        ("--definition height-loss", "ratio <= 0.74"),
        ("--by grade", "Patients by worst grade"),
        ("--by scanner", "not known"),
        ("--by sex,age_band --hide-small", "hidden"),
        ("--compare-definitions", "only genant"),
        ("--vertebra-interval bootstrap", "clusters (bootstrap)"),
        ("--index-rule thinnest", "thinnest slices and a measured vertebra"),
    ],
)
def test_what_a_person_reads(ask, words, expected):
    code, out, _ = ask(f"prevalence spines {words}")
    assert code == 0
    assert expected in out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("--by colour", "--by colour: there are sex"),
        ("--by sex,sex", "each stratum once"),
        ("--by sex,grade", "alone"),
        ("--interval gamma", "give --standard"),
        ("--standard esp2013 --by age_band", "cannot go with"),
        ("--standard moon", "none of esp2013"),
        ("--standard who --youngest 95", "nobody has an age"),
        ("--se 0.9", "go together"),
        ("--se-n 50", "go together"),
        ("--se 0.9 --sp 0.9 --se-n 50", "both validation samples"),
        ("--se 0.3 --sp 0.4", "no better than chance"),
        ("--moderate 0.85", "bounds fall"),
        ("--definition fancy", "definition"),
        ("--min-vertebrae 0", "at least 1"),
        ("--youngest 70 --oldest 60", "nobody is both"),
        ("--compare-definitions --by sex", "goes without"),
        ("--noise own", "no measured noise"),
        ("--noise own --hide-small", "cannot be hidden"),
    ],
)
def test_wrong_use_is_one_clear_line(ask, words, complaint):
    code, out, error = ask(f"prevalence spines {words}")
    assert (code, out, error.count("\n")) == (2, "", 1)
    assert complaint in error.lower() or complaint in error
