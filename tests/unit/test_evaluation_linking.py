"""Which study a truth file belongs to."""

import pyarrow as pa
import pytest
from made_studies import NORMAL, column, truth_of

from vertebra_core.errors import WrongUse
from vertebra_core.evaluation.linking import (
    NOT_IN_COHORT,
    OTHER_SERIES,
    SEVERAL_STUDIES,
    STUDY_COLUMNS,
    link,
    names_series,
    read_truths,
)
from vertebra_core.truth import write_truth


@pytest.mark.parametrize(
    ("image", "path", "expected"),
    [
        ("1.2.3.4", "p1/ct", True),  # SeriesInstanceUID
        ("p1/ct", "p1/ct", True),
        ("p1/ct/", "p1/ct", True),
        ("./p1/ct", "p1/ct", True),
        ("p1", "p1/ct", True),  # a folder above
        ("p1/ct/1.dcm", "p1/ct", True),  # a file in it
        ("scans/p1/ct", "p1/ct", True),  # below the parent of the archive
        ("scans", "", True),  # the archive is the series
        ("p", "p1/ct", False),
        ("p1/mr", "p1/ct", False),
        ("ct", "p1/ct", False),
        ("1.2.3", "p1/ct", False),
        ("", "p1/ct", False),
    ],
)
def test_an_image_names_its_series(image, path, expected):
    assert names_series(image, "1.2.3.4", "/data/scans", path) is expected


def made(links, studies):
    def table(names, rows):
        return pa.table({name: pa.array([row[i] for row in rows], pa.string()) for i, name in enumerate(names)})

    spacing = pa.array([1.5 if row[3] == "ok" else None for row in studies], pa.float64())
    return (
        table(("study_key", "series_key", "series_uid", "archive", "path"), links),
        table(STUDY_COLUMNS[:-1], studies).append_column(STUDY_COLUMNS[-1], spacing),
    )


def test_every_way_a_link_can_end():
    links, studies = made(
        [
            ("st1", "se1", "1.1", "/a", "p1/ct"),
            ("st1", "se1b", "1.2", "/a", "p1/scout"),
            ("st2", "se2", "2.1", "/a", "p2/x/ct"),
            ("st3", "se3", "3.1", "/a", "p2/y/ct"),
            ("st4", "se4", "4.1", "/a", "p4"),
            ("st9", "se9", "9.1", "/a", "p9"),
        ],
        [
            ("st1", "pt1", "se1", "ok", None),
            ("st2", "pt2", "se2", "partial", "no_vertebra"),
            ("st3", "pt3", "se3", "ok", None),
            ("st4", "pt4", "se4", "not_evaluable", "no_spine"),
        ],
    )
    points = column([NORMAL])
    images = ["se1", "p1/scout", "p2", "p2/x", "p4", "p9", "elsewhere"]
    linked = link({image: truth_of(points, image=image) for image in images}, links, studies)
    assert [(one.study_key, one.state) for one in linked] == [
        ("st1", "ok"),
        (None, OTHER_SERIES),
        (None, SEVERAL_STUDIES),
        ("st2", "partial"),
        (None, "not_evaluable: no_spine"),
        (None, NOT_IN_COHORT),
        (None, NOT_IN_COHORT),
    ]
    assert [one.patient for one in linked] == ["pt1", "pt1", "p2", "pt2", "pt4", "p9", "elsewhere"]
    assert [one.spacing_mm == 1.5 for one in linked] == [True] + [False] * 6


def test_truths_are_read_from_the_folder_itself(tmp_path):
    (tmp_path / "second_reader").mkdir()
    for path in (tmp_path / "a.json", tmp_path / "second_reader" / "b.json"):
        write_truth(truth_of(column([NORMAL])), path)
    assert list(read_truths(tmp_path)) == ["a"]
    with pytest.raises(WrongUse, match="no truth files"):
        read_truths(tmp_path / "missing")
