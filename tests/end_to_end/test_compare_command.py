"""`vertebra compare` on cohorts of known difference, from the command line to the exit code."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from made_cohorts import make_cohort_tables, write_snapshot
from made_studies import NORMAL, WEDGE, column, make_cohort, moved, patient_series, result_of

from flows.cli import main
from vertebra_core.cohort.layout import Layout
from vertebra_core.errors import Reason

SPINE = column([NORMAL] * 6 + [WEDGE])
LEVELS = ("T5", "T6", "T7", "T8", "T9", "T10", "T11")
SECRET = "one secret for both cohorts"


def cohort(folder, ends, secret: str = SECRET) -> str:
    (folder / "private").mkdir(parents=True)
    (folder / "private" / "secret").write_text(secret)
    make_cohort(folder, [(patient_series(number, sex=sex), end) for number, sex, end in ends])
    return str(folder)


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory) -> tuple[str, str]:
    """The second: T11 of study 1 loses its deformity, study 2 loses its last vertebra and two names, study 3 fails."""
    place = tmp_path_factory.mktemp("pair")
    mended = column([NORMAL] * 6 + [(21.0, 25.0, 25.0)])
    whole = result_of(SPINE, levels=LEVELS)
    first = cohort(
        place / "first",
        [(1, "F", whole), (2, "M", whole), (3, "F", whole), (4, "F", Reason.TOO_FEW_SLICES), (5, "M", whole)],
    )
    second = cohort(
        place / "second",
        [
            (1, "F", result_of(moved(mended, x=0.3), levels=LEVELS)),
            (2, "M", result_of(SPINE[:6], levels=(*LEVELS[:4], "L1", None))),
            (3, "F", Reason.NO_SPINE),
            (4, "F", Reason.TOO_FEW_SLICES),
            (6, "M", whole),
        ],
    )
    return first, second


def ask(capsys, *words: str) -> tuple[int, str, str]:
    code = main(["compare", *words])
    return (code, *capsys.readouterr())


def document(capsys, *words: str) -> tuple[int, dict]:
    code, out, _ = ask(capsys, *words, "--json")
    return code, json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_a_cohort_beside_itself_differs_by_exactly_nothing(capsys, cohorts):
    code, found = document(capsys, cohorts[0], cohorts[0], "--tolerance-mm", "0", "--by", "sex")
    assert (code, found["same"], found["reasons"], found["largest"]) == (0, True, [], [])
    for one in found["differences"].values():
        numbers = [one[name] for name in ("bias", "bias_low", "bias_high", "sd", "low", "high", "largest")]
        assert numbers == [0.0] * 7
    assert found["vertebrae"]["matched"] == found["vertebrae"]["measured"] == 4 * 7
    assert found["grades"]["kappa"]["quadratic"]["value"] == 1.0
    assert [one["difference"] for one in found["patients"]["shares"].values()] == [0.0] * 3


def test_every_change_is_counted_and_named(capsys, cohorts):
    code, found = document(capsys, *cohorts)
    assert code == 1
    studies, bones = found["studies"], found["vertebrae"]
    assert (studies["both"], len(studies["only_first"]), len(studies["only_second"])) == (4, 1, 1)
    assert studies["ends"] == {"ok -> not_evaluable: no_spine": 1}
    assert (bones["first"], bones["second"], bones["matched"], bones["only_first"]) == (14, 13, 13, 1)
    assert (bones["same_level"], bones["other_level"], bones["one_level"]) == (11, 1, 1)
    assert bones["largest_apart_mm"] == pytest.approx(0.3, abs=1e-4)
    assert found["grades"]["table"][2] == [1, 0, 0, 0]  # moderate became normal: G 0.72 and 0.84
    assert found["differences"]["ha_mm"]["largest"] == pytest.approx(3.0, abs=1e-4)
    assert found["differences"]["ha_mm"]["bias"] == pytest.approx(3 / 13, abs=1e-5)
    (change,) = found["largest"]
    assert (change["level"], change["grade"], change["second_grade"]) == ("T11", "moderate", "normal")
    assert found["patients"]["both"] == 1  # study 2 has six vertebrae left, and seven are asked for
    assert found["patients"]["shares"]["moderate"]["only_first"] == 1
    assert set(found["reasons"]) == {
        "2 studies in one only",
        "1 studies that ended otherwise",
        "1 vertebrae without a partner",
        "2 levels named otherwise",
        "1 grades",
        "heights up to 3 mm apart",
    }


def test_a_person_reads_what_differs_and_where_to_look(capsys, cohorts):
    picture = Layout(Path(cohorts[1])).pictures
    code, out, _ = ask(capsys, *cohorts, "--by", "level,sex")
    assert code == 1
    assert "ok -> not_evaluable: no_spine" in out
    assert "They differ: 2 studies in one only" in out
    key = document(capsys, *cohorts)[1]["largest"][0]["study_key"]
    picture.mkdir()
    (picture / f"{key}.png").write_bytes(b"")
    _, out, _ = ask(capsys, *cohorts)
    assert f"second/pictures/{key}.png" in out


def test_levels_match_where_places_do_not(capsys, tmp_path, cohorts):
    """Another scan of the same studies, 300 mm away: nothing lies in the same place, names still tell."""
    ends = [(number, "F", result_of(moved(SPINE, z=300.0), levels=LEVELS)) for number in (1, 2, 3)]
    elsewhere = cohort(tmp_path / "elsewhere", ends)
    assert document(capsys, cohorts[0], elsewhere)[1]["vertebrae"]["matched"] == 0
    _, found = document(capsys, cohorts[0], elsewhere, "--match", "level")
    assert found["vertebrae"]["matched"] == found["vertebrae"]["same_level"] == 21
    assert found["differences"]["g"]["largest"] == pytest.approx(0.0, abs=1e-6)


def test_two_snapshots_of_one_cohort_can_be_named(capsys, cohorts):
    (snapshot,) = Layout(Path(cohorts[0])).snapshots.iterdir()
    assert ask(capsys, str(snapshot), cohorts[0])[0] == 0


def test_another_secret_is_one_clear_line(capsys, tmp_path, cohorts):
    other = cohort(tmp_path / "other", [(1, "F", result_of(SPINE))], secret="quite another secret of the other")
    code, out, error = ask(capsys, cohorts[0], other)
    assert (code, out, error.count("\n")) == (2, "", 1)
    assert "no study in common" in error
    for folder, fingerprint in ((tmp_path / "a", "fp1"), (tmp_path / "b", "fp2")):
        write_snapshot(folder, make_cohort_tables(20, 1))
        (folder / "cohort.json").write_text(json.dumps({"secret_fingerprint": fingerprint}))
    code, _, error = ask(capsys, str(tmp_path / "a"), str(tmp_path / "b"))
    assert (code, error.count("\n")) == (2, 1)
    assert "different pseudonym secrets" in error


@pytest.mark.parametrize(
    ("words", "complaint"),
    [(["--by", "grade"], "beside each other"), (["--by", "colour"], "there are sex"), (["--tolerance-mm=-1"], "0 or")],
)
def test_wrong_use_is_one_line(capsys, cohorts, words, complaint):
    code, out, error = ask(capsys, *cohorts, *words)
    assert (code, out, error.count("\n")) == (2, "", 1)
    assert complaint in error


def test_noise_of_known_size_is_found_with_its_limits(capsys, tmp_path):
    """Heights of the second cohort carry errors of 0.5 mm: SD 0.5, limits of -+ 0.98 about a bias of 0.2."""
    rng = np.random.default_rng(3)
    made = make_cohort_tables(400, 5)
    write_snapshot(tmp_path / "first", made)
    bones = made.tables.vertebrae
    place = bones.schema.get_field_index("ha_mm")
    heights = bones["ha_mm"].to_numpy() + rng.normal(0.2, 0.5, len(bones))
    noisy = bones.set_column(place, bones.schema.field(place), pa.array(heights, from_pandas=True))
    write_snapshot(tmp_path / "second", replace(made, tables=replace(made.tables, vertebrae=noisy)))
    code, found = document(capsys, str(tmp_path / "first"), str(tmp_path / "second"), "--match", "level")
    one = found["differences"]["ha_mm"]
    assert code == 1
    assert (one["bias"], one["sd"]) == (pytest.approx(0.2, abs=0.03), pytest.approx(0.5, abs=0.02))
    assert one["bias_low"] < 0.2 < one["bias_high"]
    assert one["low_interval"][0] < 0.2 - 0.98 < one["low_interval"][1]


def test_differences_are_drawn(capsys, tmp_path, cohorts):
    _, found = document(capsys, *cohorts, "--figures", str(tmp_path / "figures"))
    assert found["figures"] == [str(tmp_path / "figures" / "differences.png")]
    assert Path(found["figures"][0]).stat().st_size > 10_000
