"""The picture of a study: right places, right colours, right numbers, nothing about the patient."""

import io
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.text import Text
from PIL import Image

from vertebra_core.geometry import CentreLine
from vertebra_core.measure import measure_vertebrae
from vertebra_core.report import picture
from vertebra_core.report.palette import GRADE_COLOURS, INK, PAPER, UNMEASURED_COLOUR
from vertebra_core.report.picture import Panel, draw_study, printed_g, spread, study_figure
from vertebra_core.report.projection import SLAB_MM, project_sagittal
from vertebra_core.settings import GradingSettings, StraightenSettings
from vertebra_core.straighten import straighten
from vertebra_core.study import StudyResult
from vertebra_core.tables.grades import grade
from vertebra_core.volume import Volume

BLOCK_HU, TISSUE_HU = 700, 40
DEPTH_MM, LENGTH_MM = 30.0, 200.0
HEIGHTS = ((20.0, 18.0, 21.0), (16.0, 18.0, 20.5), (14.0, 15.0, 20.0), (10.0, 11.0, 20.0), (20.0, 18.0, 21.0))
"""Anterior, middle, posterior: normal, mild (0.78), moderate (0.70), severe (0.50), and one cut by the scan."""
GRADES = ("normal", "mild", "moderate", "severe")
SECRET = "DOE^JANE"


def column_points(heights) -> np.ndarray:
    """Keypoints [k, 6, 3] of bodies on the straight line x = y = 0, centres 32 mm apart from z = -25 downward."""
    points = []
    for i, three in enumerate(heights):
        z = -25.0 - 32.0 * i
        for y, height in zip((-DEPTH_MM / 2, 0.0, DEPTH_MM / 2), three, strict=True):
            points += [[0.0, y, z + height / 2], [0.0, y, z - height / 2]]
    return np.array(points).reshape(-1, 6, 3)


@pytest.fixture(scope="module")
def study() -> tuple[StudyResult, Volume]:
    """A straight column of bright trapezia in soft tissue; the line runs from z = 0 to z = -200."""
    points = column_points(HEIGHTS)
    z, y = np.meshgrid(np.arange(-210.0, 11.0), np.arange(-80.0, 81.0), indexing="ij")
    hu = np.full(z.shape, TISSUE_HU, np.int16)
    for six in points:
        top = np.interp(y, six[0::2, 1], six[0::2, 2])
        bottom = np.interp(y, six[1::2, 1], six[1::2, 2])
        hu[(np.abs(y) <= DEPTH_MM / 2) & (z <= top) & (z >= bottom)] = BLOCK_HU
    affine = np.eye(4)
    affine[:3, 3] = -15.0, -80.0, -210.0
    volume = Volume(np.repeat(hu[:, :, None], 31, 2), affine, source=f"/archive/{SECRET}")
    curve = CentreLine(np.stack([np.zeros(11), np.zeros(11), -np.linspace(0.0, LENGTH_MM, 11)], 1))
    complete = np.array([True] * 4 + [False])
    spine = straighten(volume, curve, StraightenSettings())
    levels = ("T10", "T11", None, "L1", "L2")
    sizes, ones = measure_vertebrae(points), np.ones(len(points))
    return StudyResult(curve, spine, points, ones, complete, sizes, levels, ones), volume


def rgb(colour: str) -> np.ndarray:
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def texts(figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def test_keypoints_are_drawn_where_they_lie_in_the_straightened_slice(study):
    result, volume = study
    image = pixels(draw_study(result, volume, GradingSettings()))
    panel = Panel(picture.MARGIN + picture.LABELS, picture.HEAD, picture.SHOWN_MM, (0.0, LENGTH_MM), 5.0)
    for i, name in enumerate(GRADES):
        for column, row in panel.px(result.spine.straight_from_patient(result.points[i])).round().astype(int):
            # pixel centres lie half a pixel from the edges the figure counts in
            assert np.abs(image[row, column] - rgb(GRADE_COLOURS[name])).max() <= 3


def test_the_straightened_image_is_registered_with_its_keypoints_to_half_a_millimetre(study):
    result, volume = study
    image = pixels(draw_study(replace_points(result, np.zeros((0, 6, 3))), volume, GradingSettings()))
    panel = Panel(picture.MARGIN + picture.LABELS, picture.HEAD, picture.SHOWN_MM, (0.0, LENGTH_MM), 5.0)
    column = round(panel.px(np.array([-7.5, 0.0]))[0])
    down = image[picture.HEAD : picture.HEAD + int(panel.height), column, 0]
    bright = down > (down.min() + down.max()) / 2
    edges = np.flatnonzero(np.diff(bright.astype(int))) / 5.0
    wanted = [-np.interp(-7.5, six[half::2, 1], six[half::2, 2]) for six in result.points for half in (0, 1)]
    np.testing.assert_allclose(edges, wanted, atol=0.6)  # the block is drawn on 1 mm voxels


def replace_points(result: StudyResult, points: np.ndarray) -> StudyResult:
    k = len(points)
    return replace(
        result,
        points=points,
        scores=np.ones(k),
        complete=np.ones(k, bool),
        sizes=measure_vertebrae(points),
        levels=(None,) * k,
        level_confidence=np.full(k, np.nan),
    )


def test_numbers_grades_and_names_stand_beside_their_vertebra(study):
    result, volume = study
    shown = texts(study_figure(result, volume, GradingSettings(), "study k7"))
    wanted = {"study k7", "T10", "T11", "#3", "L1", "L2", "20.0", "18.0", "21.0", "0.86", "0.78", "0.70", "0.50"}
    wanted |= {"normal", "mild wedge", "moderate wedge", "severe wedge", "at the edge of the scan"}
    assert wanted <= set(shown)
    assert any("4 vertebrae measured    lowest G 0.50 at L1, severe wedge" in text for text in shown)


def test_a_vertebra_cut_by_the_scan_has_no_numbers(study):
    result, volume = study
    all_cut = replace(result, complete=np.zeros(5, bool))
    shown = texts(study_figure(all_cut, volume, GradingSettings()))
    assert not [text for text in shown if re.fullmatch(r"\d+\.\d+", text)]
    assert "no vertebra measured" in shown


def test_a_vertebra_beyond_the_image_draws_over_nothing_else(study):
    """Networks may place points outside the scan; titles, heads and numbers stay readable."""
    result, volume = study
    far = result.points.copy()
    far[0, :, 2] += 60.0
    inside = pixels(draw_study(result, volume, GradingSettings()))
    beyond = pixels(draw_study(replace(result, points=far), volume, GradingSettings()))
    assert inside.shape == beyond.shape
    blue = rgb(GRADE_COLOURS["normal"])
    assert (np.abs(inside[: picture.HEAD - 1] - blue).max(2) < 30).sum() == 0
    assert (np.abs(beyond[: picture.HEAD - 1] - blue).max(2) < 30).sum() < 200  # half of the level's name


def test_rows_of_numbers_stand_level_with_their_vertebra(study):
    result, volume = study
    figure = study_figure(result, volume, GradingSettings())
    rows = {text.get_text(): text.get_position()[1] for text in figure.findobj(Text)}
    centre = picture.HEAD + (25.0 + 32.0 * 1) * 5.0
    assert rows["mild wedge"] == pytest.approx(centre, abs=0.5)


def test_no_text_leaves_the_figure_or_meets_another(study):
    result, volume = study
    figure = study_figure(result, volume, GradingSettings(), "study " + "f" * 32)
    renderer = figure.canvas.get_renderer()
    shown = [text for text in figure.findobj(Text) if text.get_text()]
    boxes = [text.get_window_extent(renderer) for text in shown]
    width, height = figure.canvas.get_width_height()
    for i, box in enumerate(boxes):
        assert box.x0 >= 0, shown[i]
        assert box.x1 <= width, shown[i]
        assert box.y0 >= 0, shown[i]
        assert box.y1 <= height, shown[i]
        for j in range(i):
            assert not box.overlaps(boxes[j]), (shown[i].get_text(), shown[j].get_text())


def test_the_longest_verdict_ends_before_the_right_image(study):
    result, volume = study
    heights = ((20.0, 14.5, 20.0),) * 5
    crushed = replace(result, points=column_points(heights), sizes=measure_vertebrae(column_points(heights)))
    figure = study_figure(crushed, volume, GradingSettings())
    renderer = figure.canvas.get_renderer()
    verdict = next(text for text in figure.findobj(Text) if text.get_text() == "moderate biconcave")
    right_image = figure.axes[0].images[1].get_extent()[0]
    assert verdict.get_window_extent(renderer).x1 < right_image - 5


def test_a_picture_holds_the_title_and_nothing_else_about_the_patient(study):
    result, volume = study
    png = draw_study(result, volume, GradingSettings(), "study k7")
    image = Image.open(io.BytesIO(png))
    assert not getattr(image, "text", {})
    assert SECRET.encode() not in png
    assert not [text for text in texts(study_figure(result, volume, GradingSettings(), "study k7")) if SECRET in text]


def test_the_same_study_gives_the_same_bytes(study):
    result, volume = study
    first = draw_study(result, volume, GradingSettings(), "k")
    assert draw_study(result, volume, GradingSettings(), "k") == first


@pytest.mark.parametrize("length", [40.0, 250.0, 700.0])
def test_any_length_of_spine_gives_a_picture_of_usable_size(length):
    affine = np.diag([10.0, 5.0, 10.0, 1.0])
    affine[:3, 3] = -50.0, -150.0, -length - 20.0
    volume = Volume(np.zeros((int(length / 10) + 5, 60, 11), np.int16), affine)
    curve = CentreLine(np.stack([np.zeros(9), np.zeros(9), -np.linspace(0.0, length, 9)], 1))
    spine, nothing, none = straighten(volume, curve, StraightenSettings()), np.zeros((0, 6, 3)), np.zeros(0)
    result = StudyResult(curve, spine, nothing, none, none > 0, measure_vertebrae(nothing), (), none)
    height, width, _ = pixels(draw_study(result, volume, GradingSettings())).shape
    assert 400 <= height <= 2900
    assert 1000 <= width <= 2600


def test_the_projection_follows_a_scoliotic_spine():
    z, x = np.meshgrid(np.arange(-200.0, 1.0, 2.0), np.arange(-60.0, 61.0, 2.0), indexing="ij")
    bend = 40.0 * np.sin(z / 60.0)
    hu = np.where(np.abs(x - bend) < SLAB_MM, 500, 0).astype(np.int16)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = -60.0, -40.0, -200.0
    volume = Volume(np.repeat(hu[:, None, :], 41, 1), affine)
    down = np.linspace(-5.0, -195.0, 20)
    curve = CentreLine(np.stack([40.0 * np.sin(down / 60.0), np.zeros(20), down], 1))
    projection = project_sagittal(volume, curve)
    rows = slice(int(20 / 0.8), int(180 / 0.8))
    assert projection.hu[rows].min() == pytest.approx(500, abs=1)


def test_the_projection_of_an_oblique_volume_keeps_patient_places():
    """A ball at a known LPS place appears there, whatever the axes of the volume are."""
    angle = np.deg2rad(25.0)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([2.0, 2.0, 2.0])
    affine[:3, 3] = turn @ np.array([-40.0, -100.0, -100.0]) + [3.0, 10.0, -60.0]
    index = np.stack(np.meshgrid(np.arange(41), np.arange(101), np.arange(101), indexing="ij"), -1)
    places = index @ affine[:3, :3].T + affine[:3, 3]
    ball = np.array([3.0, 20.0, -40.0])
    hu = np.where(((places - ball) ** 2).sum(-1) < 8.0**2, 1000, 0).astype(np.int16).transpose(2, 1, 0)
    curve = CentreLine(np.stack([np.full(9, 3.0), np.full(9, 15.0), -np.linspace(20.0, 100.0, 9)], 1))
    projection = project_sagittal(Volume(hu, affine), curve)
    weight = np.nan_to_num(projection.hu)
    rows, columns = np.indices(weight.shape) + 0.5
    step_y = (projection.y_mm[1] - projection.y_mm[0]) / weight.shape[1]
    step_z = (projection.z_mm[1] - projection.z_mm[0]) / weight.shape[0]
    y = projection.y_mm[0] + (weight * columns).sum() / weight.sum() * step_y
    z = projection.z_mm[0] + (weight * rows).sum() / weight.sum() * step_z
    assert (y, z) == (pytest.approx(20.0, abs=0.3), pytest.approx(-40.0, abs=0.3))
    assert np.isnan(projection.hu).any()  # the corners outside the oblique volume are not air


@given(st.floats(0.3, 1.0))
def test_a_printed_g_has_the_grade_of_its_vertebra(g):
    grading = GradingSettings()
    assert grade(float(printed_g(g, grading)), grading) == grade(g, grading)
    assert abs(float(printed_g(g, grading)) - g) <= 0.005 + 1e-9  # half a hundredth, and the rounding of binary numbers


@given(st.lists(st.floats(0, 2000), max_size=30).map(sorted), st.floats(1, 40))
def test_spread_rows_keep_order_and_distance_and_move_no_row_that_has_room(places, gap):
    rows = spread(np.array(places), gap)
    assert len(rows) == len(places)
    if len(places) > 1:
        assert np.diff(rows).min() >= gap - 1e-6
        if np.diff(places).min() >= gap:
            np.testing.assert_allclose(rows, places, atol=1e-6)
    if places:
        assert rows.mean() == pytest.approx(np.mean(places), abs=1e-6)


# Simulated colour vision: Machado, Oliveira, Fernandes, IEEE TVCG 2009;15:1291, severity 1, on linear RGB.
COLOUR_VISION = {
    "usual": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
LEAST_DIFFERENCE = 20.0
"""CIE 1976 colour difference; 2.3 is just noticeable, 20 is told apart at a glance."""

LEAST_CONTRAST = 3.0
"""Of graphics against their background (WCAG 2.1, criterion 1.4.11)."""


def lightness_and_hue(colour: str, vision: str) -> np.ndarray:
    """CIELAB (D65) of a colour as it is seen."""
    value = rgb(colour) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.asarray(COLOUR_VISION[vision]) @ linear, 0, 1)
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    xyz = to_xyz @ seen / np.array([0.95047, 1.0, 1.08883])
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("vision", COLOUR_VISION)
def test_grades_are_told_apart_with_every_kind_of_colour_vision(vision):
    seen = [lightness_and_hue(colour, vision) for colour in (*GRADE_COLOURS.values(), UNMEASURED_COLOUR)]
    apart = [np.linalg.norm(a - b) for i, a in enumerate(seen) for b in seen[:i]]
    assert min(apart) > LEAST_DIFFERENCE
    light = [((lab[0] + 16) / 116) ** 3 for lab in (*seen, lightness_and_hue(INK, vision))]
    dark = lightness_and_hue(PAPER, vision)[0] * 27 / 24389
    assert (min(light) + 0.05) / (dark + 0.05) > LEAST_CONTRAST
