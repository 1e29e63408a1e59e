"""Agreement among readers by hand."""

import json

import numpy as np
import pytest

from flows.cli import main
from vertebra_core.evaluation.agreement import agreement, difference, distances, readers_as_classifiers
from vertebra_core.evaluation.reader_intervals import reader_intervals
from vertebra_core.evaluation.readings import join, match_readings, read_series, read_spacings

UID = "1.2.3."


def vertebra(slice_number: float, heights=(20.0, 20.0, 20.0), row: float = 100.0, column: float = 50.0) -> list:
    """Six points (row, column, slice) of a body 20 rows deep round this slice, voxels of 1 mm."""
    return [
        [row + 10.0 * j, column, slice_number + sign * height / 2]
        for j, height in enumerate(heights, -1)
        for sign in (-1, 1)
    ]


def written(folder, readers: dict, name: str = "one"):
    (folder / f"{name}.json").write_text(json.dumps({"Folder": name, "SeriesInstanceUID": UID, "Annotation": readers}))
    return folder


def joined(folder, readers: dict, spacing=(1.0, 1.0)):
    return join(read_series(written(folder, readers)), {"one": spacing})


def test_distances_of_two_readers(tmp_path):
    """The second one marks both vertebrae 3 columns to the side and 4 rows behind; no third vertebra."""
    a = [vertebra(20), vertebra(50), vertebra(80)]
    b = [vertebra(20, column=53, row=104), vertebra(50, column=53, row=104)]
    found = agreement(joined(tmp_path, {"a": a, "b": b}, (0.5, 1.0)))
    assert (found.readings, found.vertebrae, found.reader_pairs, found.pairs) == (5, 3, 1, 2)
    assert (found.centre_mm.mean, found.centre_mm.sd) == (pytest.approx(2.5), pytest.approx(0.0))
    assert found.in_plane_mm.mean == pytest.approx(2.0)
    assert found.point_mm == pytest.approx([2.0] * 6)
    assert found.f1 == pytest.approx(4 / 5)
    assert (found.covered_found, found.covered) == (4, 4)
    assert found.g.rms == 0.0
    assert found.levels_equal is None


def test_heights_and_g_of_two_readers(tmp_path):
    """Anterior heights 20 and 16 against 18 and 18, all other heights 20."""
    a = [vertebra(20, (20, 20, 20)), vertebra(50, (16, 20, 20))]
    b = [vertebra(20, (18, 20, 20)), vertebra(50, (18, 20, 20))]
    found = agreement(joined(tmp_path, {"a": a, "b": b}))
    ha = found.heights_mm["ha"]
    assert (ha.rms, ha.mae, ha.limits) == (pytest.approx(2.0), pytest.approx(2.0), pytest.approx(3.92))
    assert found.heights_mm["hp"].rms == 0.0
    assert (found.g.rms, found.g_noise) == (pytest.approx(0.1), pytest.approx(0.1 / np.sqrt(2)))
    # grades: normal and mild (G = 0.80) against normal and normal, in both directions
    assert found.confusion[0][:2] == (1.0, 0.5)
    assert found.confusion[1][:2] == (0.5, 0.0)
    assert found.grades_equal == 0.5
    assert found.kappa["plain"] == pytest.approx((0.5 - (9 + 1) / 16) / (1 - 10 / 16))


def test_icc_of_shrout_and_fleiss(tmp_path):
    """Their Table 2 (Psychological Bulletin 1979;86:420-428): six targets, four judges, ICC(1,1) = 0.17."""
    ratings = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]) / 20
    readers = {
        f"judge{j}": [vertebra(20 + 30 * i, (20 * g, 20, 20)) for i, g in enumerate(ratings[:, j])] for j in range(4)
    }
    found = agreement(joined(tmp_path, readers))
    assert found.icc == pytest.approx(0.17, abs=0.005)
    assert found.g_within_sd == pytest.approx(np.sqrt(6.26) / 20, abs=1e-3)  # their within mean square


def test_one_against_the_mean_of_the_others(tmp_path):
    """Three readers of one vertebra, 0, 3 and 6 mm behind: distances 4.5, 0 and 4.5 to the mean of the other two."""
    readers = {name: [vertebra(20, row=100.0 + 3 * i)] for i, name in enumerate("abc")}
    found = agreement(joined(tmp_path, readers))
    assert found.others_mm.mean == pytest.approx(3.0)
    assert found.centre_mm.mean == pytest.approx((3 + 3 + 6) / 3)


def test_a_reader_as_a_classifier(tmp_path):
    """Two vertebrae: both call one a fracture, one of them also the other."""
    a = [vertebra(20, (14, 20, 20)), vertebra(50, (14, 20, 20))]
    b = [vertebra(20, (14, 20, 20)), vertebra(50, (20, 20, 20))]
    by = {(one.truth, one.unit, one.bound): one for one in readers_as_classifiers(joined(tmp_path, {"a": a, "b": b}))}
    pair = by["one other reader", "vertebra", 0.74]
    assert (pair.sensitivity, pair.specificity, pair.precision) == (pytest.approx(2 / 3), 0.0, pytest.approx(2 / 3))
    assert by["one other reader", "patient", 0.74].sensitivity == 1.0


def test_neighbours_are_not_matched_although_both_readers_marked_as_many():
    """The second reader began and ended one vertebra lower: four matches, not five wrong ones."""
    spine = np.array([vertebra(30.0 * i) for i in range(6)])
    i, j = match_readings(spine[:5], spine[1:])
    assert list(zip(i.tolist(), j.tolist(), strict=True)) == [(1, 0), (2, 1), (3, 2), (4, 3)]


def test_the_other_format_has_names(tmp_path):
    segments = [{"segments": np.reshape(vertebra(20), (3, 2, 3)).tolist(), "type": "Th7"}]
    found = agreement(joined(tmp_path, {"expert1": segments, "expert2": segments}))
    assert found.levels_equal == 1.0


def test_nothing_is_not_zero():
    assert distances(np.zeros((0, 3))).mean is None
    assert difference(np.array([-2.0])).mae == 2.0


@pytest.mark.parametrize(
    ("content", "expected"),
    [("file,sy_mm\n", "no voxel size"), ("file,sy_mm,sz_mm\none.json,0,1\n", "positive"), ("a,b\n1,2\n", "no table")],
)
def test_bad_spacings_are_wrong_use(capsys, tmp_path, content, expected):
    written(tmp_path, {"a": [vertebra(20)], "b": [vertebra(20)]})
    (tmp_path / "spacing.csv").write_text(content)
    assert main(["readers", str(tmp_path), "--spacing", str(tmp_path / "spacing.csv")]) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1


def test_no_files_and_no_second_reader_are_wrong_use(capsys, tmp_path):
    assert main(["readers", str(tmp_path)]) == 2
    written(tmp_path, {"a": [vertebra(20)], "b": []})
    (tmp_path / "spacing_recovered.csv").write_text("file,sy_mm,sz_mm\none.json,0.5,1\n")
    assert main(["readers", str(tmp_path)]) == 2
    assert "marked by two readers" in capsys.readouterr().err


def test_the_command_prints_and_speaks_json(capsys, tmp_path):
    written(tmp_path, {"a": [vertebra(20)], "b": [vertebra(20, row=104)]})
    (tmp_path / "spacing_recovered.csv").write_text("file,sy_mm,sz_mm\none.json,0.5,1\n")
    assert read_spacings(tmp_path / "spacing_recovered.csv") == {"one": (0.5, 1.0)}
    assert main(["readers", str(tmp_path)]) == 0
    assert "2.00 (0.00), 2.00, 2.00" in capsys.readouterr().out
    assert main(["readers", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["agreement"]["centre_mm"]["mean"] == 2.0


@pytest.fixture
def many_readings(tmp_path):
    """Twelve CTs with six vertebrae, three readers each, whose heights err by 1 mm."""
    rng = np.random.default_rng(8)
    for number in range(12):
        true = rng.normal(20, 1.5, (6, 3)) * np.where(rng.random((6, 1)) < 0.3, [0.7, 1, 1], 1)
        read = {
            name: [vertebra(30.0 * i, three + rng.normal(0, 1, 3)) for i, three in enumerate(true)]
            for name in "abc"[: 2 + number % 2]
        }
        written(tmp_path, read, f"ct{number:02d}")
    series = read_series(tmp_path)
    return join(series, {f"ct{number:02d}": (1.0, 1.0) for number in range(12)})


def test_intervals_hold_the_figures_that_are_printed(many_readings):
    """Each figure comes from its own code; kappa is scikit-learn's, the area that of the classifier."""
    table, found = agreement(many_readings), reader_intervals(many_readings)
    assert found["ICC(1,1) of G"].value == pytest.approx(table.icc)
    assert found["limits of agreement of G, -+"].value == pytest.approx(table.g.limits)
    for name, kappa in table.kappa.items():
        assert found[f"kappa, {name}"].value == pytest.approx(kappa)
    for bound, kappa in table.kappa_at.items():
        assert found[f"kappa, G <= {bound}"].value == pytest.approx(kappa)
    for one in readers_as_classifiers(many_readings):
        if (one.truth, one.unit) == ("one other reader", "vertebra"):
            assert found[f"ROC AUC, one other reader, G <= {one.bound:.2f}"].value == pytest.approx(one.auc)
    for one in found.values():
        assert one.low < one.value < one.high


def test_the_interval_of_the_icc_is_that_of_a_bootstrap_that_reads_again(many_readings):
    slow = []
    rng = np.random.default_rng(1)
    numbers = np.unique(many_readings.series)
    for _ in range(300):
        rows = [np.flatnonzero(many_readings.series == number) for number in rng.choice(numbers, len(numbers))]
        size = int(many_readings.vertebra.max()) + 1
        vertebrae = np.concatenate([many_readings.vertebra[of] + i * size for i, of in enumerate(rows)])
        slow.append(one_way_icc(many_readings.g[np.concatenate(rows)], vertebrae))
    one = reader_intervals(many_readings)["ICC(1,1) of G"]
    assert (one.low, one.high) == pytest.approx(np.percentile(slow, [2.5, 97.5]), abs=0.06)


def one_way_icc(g: np.ndarray, vertebra_: np.ndarray) -> float:
    groups = [own for own in (g[vertebra_ == name] for name in np.unique(vertebra_)) if len(own) > 1]
    n, total = np.array([len(own) for own in groups]), np.concatenate(groups)
    within = sum(((own - own.mean()) ** 2).sum() for own in groups) / (n.sum() - len(n))
    between = sum(len(own) * (own.mean() - total.mean()) ** 2 for own in groups) / (len(n) - 1)
    size = (n.sum() - (n**2).sum() / n.sum()) / (len(n) - 1)
    return (between - within) / (between + (size - 1) * within)
