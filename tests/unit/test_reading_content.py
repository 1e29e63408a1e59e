"""What images show, from ImageType, derivation and description."""

import pytest

from vertebra_core.reading.content import content_of, of_image_type

ORIGINAL, DERIVED = ("ORIGINAL", "PRIMARY", "AXIAL"), ("DERIVED", "SECONDARY", "AXIAL")

SAID = {
    "plain": (
        "", "Thorax  1.0  B31f", "AXIAL SOFT  THIN POST  40%ASIR", "Recon 2: DR 20%", "Mono 70 keV", "venous phase",
        "Body 5.0 Excret/Phase CE", "LOW DOSE CHEST", "Contrast/Bolus Agent: NONE", "THINS FOR MIP", "Hip  3.0  B70s",
        "CTPA (40% ASIR)", "3D AXIAL PRONE", "CT FUSION", "TRI_PHASE_LIVER", "CHIPS", "Head 5.0 H31s",
    ),
    "projection": ("COR MIP", "MIP 10 x 5 mm", "Ax_MIP_Lung", "Sag-MIP", "AXIAL LUNG MIPS 7x2MM", "MinIP", "ThinMIP"),
    "derived_map": ("Calcium Suppression 50 Index[HU*]", "2.5mm IODINE(WATER)", "Z Effective", "bone removal"),
    "virtual": ("MonoE 40keV[HU]", "DE_Abd_Qr40_3_Liver_VNC_0_Auto_", "4Q4 VIRTUAL NONCONTRAST", "50 keV Stnd"),
    "one_energy": ("Thin Cut 0.6  A_100kV", "THINS  B_Sn140kV"),
    "phase": ("T=80%,PR=78% -> 86%", "P4^P1^S105^I0, Gated, 90.0%", "CT:P2 3.0  B30f  50% Ex", "BestDiast 70 %"),
    "average": ("Ave-IP(10) 0%_10%_20%", "AVG_R1 CTAC"),
    "reformat": ("CORONAL", "CT_Abdomen1_Cor_3_Avg", "SAG<MPR Range>", "MPR, RETARD 7MIN, Axial"),
    "localizer": ("Topogram  0.6  T20s", "SCOUT AP/LAT", "SURVVIEW", "SupineAPTopo", ",,Scano,2.0,,,"),
    "time_series": ("Smart Prep Series", "PreMonitoring  9.6  B30s", "Test Bolus", "DE Perfusion Data"),
    "report_page": ("Dose Report", "Patient Protocol", "Screen Save", "VRT IMAGES"),
    "curved": ("CURVED LAD",),
}  # fmt: skip


@pytest.mark.parametrize(("code", "text"), [(code, text) for code, texts in SAID.items() for text in texts])
def test_a_description_is_classed(code, text):
    assert content_of(DERIVED, text).code == code


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("MIP", "doubtful"),
        ("subtraction", "doubtful"),
        ("iodine map", "derived_map"),
        ("calcium suppression", "derived_map"),
    ],
)
def test_a_description_alone_refuses_original_images_only_where_it_can_mean_nothing_else(text, code):
    assert content_of(ORIGINAL, text).code == code


TYPES = {
    "localizer": ("LOCALIZER", "SCOUT", "CT_SOM5 TOP"),
    "projection": ("MIP", "CT_SOM5 MIP", "CSA MIP", "MINIP", "CT_SOM7 MIP THIN"),
    "report_page": ("SCREEN SAVE", "CT_SOM5 PROT", "DOSE_INFO"),
    "derived_map": ("SUBTRACTION", "PERFUSION", "QUANTITY"),
    "reformat": ("REFORMATTED", "MPR", "CT_SOM5 MPR"),
    "virtual": ("VNC",),
}


@pytest.mark.parametrize(("code", "value"), [(code, value) for code, values in TYPES.items() for value in values])
def test_an_image_type_is_classed(code, value):
    found = of_image_type(("DERIVED", "SECONDARY", "AXIAL", value))
    assert found is not None
    assert found.code == code


def test_an_axial_image_type_says_nothing_more():
    for fourth in ("CT_SOM5 SPI", "HELIX", "CT_SOM7 SPI DUAL", "NONE", "MONO_70"):
        assert of_image_type((*ORIGINAL, fourth)) is None


@pytest.mark.parametrize(
    ("code", "content"), [("113077", "projection"), ("113062", "derived_map"), ("113072", "reformat")]
)
def test_a_derivation_code_is_believed(code, content):
    assert content_of(DERIVED, "Chest", (code,)).code == content


def test_a_calculation_technique_is_believed():
    assert content_of(("DERIVED", "PRIMARY", "VOLUME", "NONE"), "", (), "MAX_IP").code == "projection"
    assert content_of(("DERIVED", "PRIMARY", "VOLUME", "NONE"), "", (), "NONE").code == "plain"
