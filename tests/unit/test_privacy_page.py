"""docs/privacy.md says of every attribute that is read where it goes, and of none that is not."""

import ast
import re
from pathlib import Path

import pyarrow.parquet as pq
from made_studies import NORMAL, column, make_cohort, patient_series, result_of
from pydicom.datadict import keyword_dict, tag_for_keyword

from vertebra_core.cohort.links import COLUMNS
from vertebra_core.settings import PrivacySettings
from vertebra_core.tables.schema import TABLES

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "privacy.md").read_text()
READING = ROOT / "vertebra_core" / "reading"
BASIC_PROFILE = {
    "PatientID": "Z/D", "IssuerOfPatientID": "X", "StudyInstanceUID": "U", "SeriesInstanceUID": "U",
    "SOPInstanceUID": "U", "StudyDate": "Z", "PatientBirthDate": "Z", "PatientAge": "X", "PatientSex": "Z",
    "AcquisitionDateTime": "X/Z/D", "AcquisitionTime": "X/Z", "ContentTime": "Z/D", "SeriesDescription": "X",
    "ContrastBolusAgent": "Z/D", "FrameAcquisitionDateTime": "D",
}  # fmt: skip
"""Table E.1-1 of PS3.15, edition 2026c, column Basic Profile, of the attributes that are read; it names no other."""


def table_of(heading: str) -> list[list[str]]:
    """Cells of the table whose first column has this heading."""
    _, _, rest = PAGE.partition(f"| {heading} |")
    lines = rest.split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def attributes_read() -> set[str]:
    """Keywords of DICOM that stand in the code of reading: in strings, and as attributes of datasets."""
    found = set()
    for path in READING.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
            elif isinstance(node, ast.Attribute):
                found.add(node.attr)
    return {name for name in found if name and name in keyword_dict}


def describes_pixels(keyword: str) -> bool:
    """Of groups 0028 and 7FE0, which the page names together; the three of Table E.1-1 among them are not read."""
    return (tag_for_keyword(keyword) or 0) >> 16 in (0x0028, 0x7FE0)


def test_the_page_names_every_attribute_that_is_read_and_no_other():
    named = [row[0] for row in table_of("attribute")]
    assert len(named) == len(set(named))
    *named, last = named
    assert last == "all others of groups 0028 and 7FE0"
    pixels = {keyword for keyword in attributes_read() if describes_pixels(keyword)}
    assert set(named) - pixels == attributes_read() - pixels
    assert not pixels & {"ImagePresentationComments", "PaletteColorLookupTableUID", "LargePaletteColorLookupTableUID"}


def test_every_attribute_has_the_action_of_the_basic_profile():
    for name, action, _ in table_of("attribute"):
        assert action == BASIC_PROFILE.get(name, "-"), name


def test_every_place_that_is_named_exists():
    columns = {column.name for table in TABLES.values() for column in table.columns} | set(COLUMNS)
    for name, _, where in table_of("attribute"):
        for place in re.findall(r"`([^`]+)`", where):
            assert place in columns or place == "private/links.parquet", (name, place)
        assert where


def test_what_is_never_read_is_not():
    never = ("PatientName", "AccessionNumber", "InstitutionName", "DeviceSerialNumber", "StudyDescription")
    assert not attributes_read() & {*never, "ReferringPhysicianName", "PatientComments", "OtherPatientIDs"}


def test_settings_and_defaults_are_those_of_the_code():
    rule = PrivacySettings()
    stated = {row[0].strip("`"): row[2].strip("`") for row in table_of("setting")}
    assert stated == {f"privacy.{name}": str(value).lower() for name, value in vars(rule).items()}


def test_the_recipe_for_going_back_works(tmp_path):
    namespace: dict = {}
    for block in re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        exec(block, namespace)
    spine = result_of(column([NORMAL]))
    layout = make_cohort(tmp_path / "spines", [(patient_series(1), spine), (patient_series(2), spine)])
    links = pq.read_table(layout.links).to_pylist()
    hers = next(row for row in links if row["patient_id"] == "MR-0001")
    (found,) = namespace["who"](layout.root, hers["patient_key"])
    assert (found["patient_id"], found["series_uid"], found["path"]) == ("MR-0001", "1.2.3.1.1", "p1/ct")
