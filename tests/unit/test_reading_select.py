"""One index series per study, by the stated rule."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vertebra_core.errors import Reason
from vertebra_core.reading.kernels import sharpness
from vertebra_core.reading.select import choose_index_series
from vertebra_core.reading.series import Series

GOOD = Series(
    patient_id="p", patient_id_issuer="", study_uid="1", series_uid="1.1", stack=0, archive="/a", path="", files=("x",),
    file_format="dicom", modality="CT", sop_class_uid=None, transfer_syntax_uid=None,
    image_type=("ORIGINAL", "PRIMARY", "AXIAL"), manufacturer=None, scanner_model=None, kernel="STANDARD",
    contrast=None, rows=512, columns=512, n_slices=200, slice_thickness_mm=2.0, slice_spacing_mm=2.0,
    pixel_spacing_mm=0.8, extent_mm=400.0, age_years=None, sex=None, study_date=None, input_digest="", decision=None,
    orientation="axial",
)  # fmt: skip

WORSE = {
    "a sagittal reformat": {"orientation": "sagittal", "slice_spacing_mm": 1.0, "slice_thickness_mm": 1.0},
    "a derived image": {"image_type": ("DERIVED", "PRIMARY", "AXIAL"), "slice_spacing_mm": 1.0},
    "a secondary image": {"image_type": ("ORIGINAL", "SECONDARY", "AXIAL")},
    "a thin part of the scan": {"extent_mm": 100.0, "slice_spacing_mm": 1.0, "slice_thickness_mm": 1.0},
    "thicker slices": {"slice_thickness_mm": 5.0, "slice_spacing_mm": 5.0, "extent_mm": 600.0},
    "thick slices that overlap": {"slice_thickness_mm": 5.0, "slice_spacing_mm": 2.0},
    "a sharp kernel": {"kernel": "LUNG", "extent_mm": 410.0},
    "a shorter scan": {"extent_mm": 380.0},
    "contrast": {"contrast": True},
    "a virtual image": {"content": "virtual", "slice_spacing_mm": 1.0, "slice_thickness_mm": 1.0},
    "one tube of two": {"content": "one_energy", "kernel": "SOFT"},
    "a phase of the breath": {"content": "phase", "extent_mm": 500.0},
    "the later UID": {},
}


@pytest.mark.parametrize("name", WORSE)
@pytest.mark.parametrize("first", [True, False])
def test_the_better_series_is_chosen_whatever_the_order(name, first):
    worse = replace(GOOD, series_uid="1.2", **WORSE[name])
    chosen = choose_index_series([GOOD, worse] if first else [worse, GOOD])
    decisions = {series.series_uid: series.decision for series in chosen}
    assert decisions == {"1.1": None, "1.2": Reason.NOT_INDEX_SERIES}


def test_thinner_comes_before_the_kernel_but_not_below_a_millimetre():
    thin_sharp = replace(GOOD, series_uid="1.2", slice_thickness_mm=1.0, slice_spacing_mm=1.0, kernel="LUNG")
    thinnest_sharp = replace(thin_sharp, series_uid="1.3", slice_thickness_mm=0.5, slice_spacing_mm=0.5)
    thin_soft = replace(thin_sharp, series_uid="1.4", kernel="STANDARD")
    best = [s.series_uid for s in choose_index_series([GOOD, thin_sharp]) if s.decision is None]
    assert best == ["1.2"]
    best = [s.series_uid for s in choose_index_series([thin_sharp, thinnest_sharp, thin_soft]) if s.decision is None]
    assert best == ["1.4"]


def test_refused_series_keep_their_reason_and_are_never_chosen():
    bad = replace(GOOD, series_uid="1.0", decision=Reason.LOCALIZER)
    assert [series.decision for series in choose_index_series([bad, GOOD])] == [Reason.LOCALIZER, None]
    assert [series.decision for series in choose_index_series([bad])] == [Reason.LOCALIZER]


def test_another_stack_of_the_chosen_series_says_so():
    other = replace(GOOD, stack=1, n_slices=100, extent_mm=200.0)
    chosen = choose_index_series([other, GOOD])
    assert [series.decision for series in chosen] == [Reason.OTHER_STACK, None]


def test_two_patients_of_one_study_uid_are_two_studies():
    chosen = choose_index_series([GOOD, replace(GOOD, patient_id="q")])
    assert [series.decision for series in chosen] == [None, None]


def test_the_detail_says_what_was_compared_and_names_no_header_text():
    other = replace(GOOD, series_uid="1.2", kernel="LUNG SECRET", extent_mm=380.0)
    (detail,) = [series.decision_detail for series in choose_index_series([GOOD, other]) if series.decision]
    assert "sharp kernel" in detail
    assert "soft kernel" in detail
    assert "SECRET" not in detail


@given(st.permutations(range(5)), st.lists(st.sampled_from(sorted(WORSE)), min_size=5, max_size=5))
def test_the_choice_does_not_depend_on_the_order(order, kinds):
    series = [replace(GOOD, series_uid=f"1.{i}", **WORSE[kind]) for i, kind in enumerate(kinds)]
    straight = [s.series_uid for s in choose_index_series(series) if s.decision is None]
    shuffled = [s.series_uid for s in choose_index_series([series[i] for i in order]) if s.decision is None]
    assert straight == shuffled
    assert len(straight) == 1


@pytest.mark.parametrize(
    ("changes", "decided"),
    [
        ({"orientation": "sagittal"}, "plane"),
        ({"content": "virtual"}, "content"),
        ({"slice_thickness_mm": 5.0}, "slice thickness"),
        ({"kernel": "LUNG"}, "kernel"),
        ({"extent_mm": 100.0}, "coverage"),
    ],
)
def test_the_detail_says_which_part_of_the_rule_decided(changes, decided):
    chosen, other = choose_index_series([GOOD, replace(GOOD, series_uid="1.2", **changes)])
    assert other.decision_detail.startswith(f"{decided} decided; this one: ")
    assert chosen.decision_detail.startswith("best of 2 that can be measured: axial, original")


def test_phases_that_were_not_chosen_say_so():
    phases = [replace(GOOD, series_uid=f"1.{i}", content="phase") for i in range(10)]
    decisions = [series.decision for series in choose_index_series(phases)]
    assert decisions == [None] + [Reason.OTHER_PHASE] * 9


def test_a_reformat_is_measured_where_nothing_better_is_there():
    reformat = replace(GOOD, image_type=("DERIVED", "SECONDARY", "REFORMATTED", "AVERAGE"), orientation="sagittal")
    thick = replace(GOOD, series_uid="1.2", decision=Reason.SLICES_TOO_THICK)
    assert [series.decision for series in choose_index_series([reformat, thick])] == [None, Reason.SLICES_TOO_THICK]


def test_a_dual_energy_study_with_many_reconstructions_has_one_index_series():
    """Both tubes, the mixture in two kernels and three thicknesses, 40 keV, virtual non-contrast and two phases."""
    made = {
        "A_80kV": {"content": "one_energy", "slice_thickness_mm": 1.0},
        "B_Sn140kV": {"content": "one_energy", "slice_thickness_mm": 1.0},
        "lung": {"kernel": "Bl64d", "slice_thickness_mm": 1.0},
        "mixed 1.5 arterial": {"kernel": "Br40d", "slice_thickness_mm": 1.5, "contrast": True},
        "mixed 5": {"kernel": "Br40d", "slice_thickness_mm": 5.0, "contrast": True},
        "mixed 1.5 venous": {"kernel": "Br40d", "slice_thickness_mm": 1.5, "contrast": True, "extent_mm": 380.0},
        "40 keV": {"content": "virtual", "slice_thickness_mm": 1.0},
        "VNC": {"content": "virtual", "slice_thickness_mm": 1.0},
        "coronal": {"orientation": "coronal", "content": "reformat", "slice_thickness_mm": 1.0},
    }
    study = [replace(GOOD, series_uid=name, **{"slice_spacing_mm": 1.0, **changes}) for name, changes in made.items()]
    assert [s.series_uid for s in choose_index_series(study) if s.decision is None] == ["mixed 1.5 arterial"]


KERNELS = {
    0: "STANDARD SOFT BODY B_SOFT_C B19f B31s D30f H31s AB40 Br40d/3 Br40d\\3 Qr36 Hr40 I30f/2 FC07 FC11 A B UB XA",
    1: "DETAIL CHST B50f B45s Br49 I50f/3 FC43 C",
    2: "LUNG BONE BONEPLUS EDGE B_SHARP_C B70f I70f Bl57 Bl64d Br59 Qr69 Ur77 FC30 FC52 FC86 D E L YB",
    None: "T20s Tr20 FL01 EXPERIMENTAL7 IMR2 unheard_of",
}


@pytest.mark.parametrize(
    ("expected", "kernel"), [(level, name) for level, names in KERNELS.items() for name in names.split()]
)
def test_the_sharpness_of_kernels(kernel, expected):
    assert sharpness(kernel) == expected


def test_no_kernel_has_no_sharpness():
    assert sharpness(None) is None
    assert sharpness("") is None
