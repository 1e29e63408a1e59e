"""``vertebra show``: the picture of one study."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from vertebra_core.reading.series import Series
    from vertebra_core.settings import GradingSettings, Settings
    from vertebra_core.storage import Place
    from vertebra_core.study import StudyResult
    from vertebra_core.truth import Truth

DEFAULT_PICTURE = Path("vertebra.png")


def show(
    source: Annotated[str, Parameter(help="A CT: file or folder of one series. Or a cohort, with a study key.")],
    study: Annotated[str | None, Parameter(help="Key of a study in the cohort, or of a further series.")] = None,
    /,
    *,
    out: Annotated[Path | None, Parameter(help="Where to write the picture, a .png file (a sheet: .html).")] = None,
    export: Annotated[Path | None, Parameter(help="Also write the keypoints, as vertebra-truth/1 JSON.")] = None,
    contact_sheet: Annotated[
        str | None, Parameter(help="Of a cohort: a page of thumbnails of all studies of a grade or a reason.")
    ] = None,
    per_page: Annotated[int | None, Parameter(help="Studies of a page of a contact sheet (60).")] = None,
    title: Annotated[str, Parameter(help="Printed on the picture of a CT; choose a pseudonym.")] = "",
    profile: Annotated[str, Parameter(help="Settings: a name in deployments/profiles or a .toml file.")] = "local",
    device: Annotated[Literal["auto", "cpu", "cuda"], Parameter(help="Where the networks run.")] = "auto",
    set_: Annotated[list[str], Parameter(name="--set", help="Any setting: SECTION.KEY=VALUE.", negative="")] = [],  # noqa: B006
) -> None:
    """Draw one study: the straightened slice with keypoints, heights and grades, and the CT from the side.

    Of a CT, measure it now and write the picture to --out (vertebra.png). Of a cohort, say where the picture of the
    study lies, and copy it to --out. What is exported of a CT names the series by its UID or file name: keep it
    private. What is exported of a cohort names it by its key.

    Example: vertebra show /archive/ct/scan.nii.gz --out spine.png --export spine.json

    Example: vertebra show spines STUDY_KEY

    A contact sheet is an HTML file, --out or contact-GROUP.html; more than --per-page studies make further files,
    contact-GROUP-2.html and so on. GROUP is a worst grade (severe), or a reason (no_spine): of studies that were not
    measured there is no picture, only the key and why.

    Example: vertebra show spines --contact-sheet severe
    """
    from vertebra_core.errors import WrongUse
    from vertebra_core.storage import answering, place_of

    for path, suffix in ((out, ".html" if contact_sheet else ".png"), (export, ".json")):
        if path is not None and path.suffix.lower() != suffix:
            raise WrongUse(f"{path}: expected a name that ends in {suffix}")
    with answering(source):
        place = place_of(source)
        is_cohort = (place / "cohort.json").exists()
    if contact_sheet is not None:
        if not is_cohort or study is not None or export is not None:
            raise WrongUse("--contact-sheet goes with a cohort alone, without a study key and --export")
        with answering(source):
            _show_sheet(source, contact_sheet, per_page, out)
    elif is_cohort:
        _show_stored(source, study, out, export)
    elif study is not None:
        raise WrongUse(f"{source} is not a cohort; a study key goes with a cohort")
    else:
        _show_ct(place, out or DEFAULT_PICTURE, export, title, profile, device, set_)


# -- a CT, measured now -------------------------------------------------------------------------------------------


def _show_ct(
    source: "Place", out: Path, export: Path | None, title: str, profile: str, device: str, set_: list[str]
) -> None:
    from flows.settings import assignments, load_settings
    from tasks.method import choose_device
    from vertebra_core.models import load_models
    from vertebra_core.reading.formats import read_volume
    from vertebra_core.report.picture import draw_study
    from vertebra_core.study import measure_study
    from vertebra_core.truth import write_truth

    settings = load_settings(profile, assignments(set_)).method
    series = one_series(source, settings)
    volume = read_volume(series, settings.reading)
    result = measure_study(volume, load_models(device=choose_device(device)), settings)
    out.write_bytes(draw_study(result, volume, settings.grading, title))
    if export is not None:
        write_truth(as_truth(result, series), export)
    _print_result(result, settings.grading)
    _print_written(out, export)


def one_series(source: "Place", settings: "Settings") -> "Series":
    """The series to measure below a file or folder that holds one study.

    Raises
    ------
    NotEvaluable
        Nothing there can be measured; with the reason of its largest series.
    WrongUse
        There is nothing, or more than one study.
    """
    from vertebra_core.errors import NotEvaluable, WrongUse
    from vertebra_core.reading.inventory import find_series
    from vertebra_core.reading.select import choose_index_series

    found = choose_index_series(find_series([source], settings.reading).series, settings.reading)
    good = [series for series in found if series.decision is None]
    if len(good) > 1:
        raise WrongUse(f"{source} holds {len(good)} studies; name the folder of one, or screen them all")
    if good:
        return good[0]
    refused = max(found, key=lambda series: series.n_slices, default=None)
    if refused is None or refused.decision is None:
        raise WrongUse(f"{source} holds no image series")
    raise NotEvaluable(refused.decision, refused.decision_detail)


def as_truth(result: "StudyResult", series: "Series") -> "Truth":
    """The keypoints that were found, in the format of a reader's."""
    from vertebra_core.truth import Truth

    return Truth(series.series_uid, "vertebra", result.points, result.complete, result.levels)


def _print_result(result: "StudyResult", grading: "GradingSettings") -> None:
    from flows.printing import ABSENT, print_table
    from vertebra_core.report.picture import line_of

    lines = [line_of(result, i, grading) for i in range(len(result.points))]
    rows = [[line.name, *(line.values or (ABSENT,) * 4), line.verdict] for line in lines]
    columns = ["vertebra", "ha mm", "hm mm", "hp mm", "G", "grade"]
    print_table("Vertebrae from the top down", columns, rows, text=("grade",))


def _print_written(out: "Place | None", export: Path | None) -> None:
    for name, path in (("picture", out), ("keypoints", export)):
        if path is not None:
            print(f"{name:<10}{path}")


# -- many studies of a cohort --------------------------------------------------------------------------------------


def _show_sheet(cohort: str, group: str, per_page: int | None, out: Path | None) -> None:
    from vertebra_core.cohort.commit import replace
    from vertebra_core.cohort.snapshot import open_snapshot
    from vertebra_core.errors import WrongUse
    from vertebra_core.report.sheet import PER_PAGE, SHEET_COLUMNS, contact_sheets, studies_of
    from vertebra_core.tables.parquet import read_table

    per_page = PER_PAGE if per_page is None else per_page
    if per_page < 1:
        raise WrongUse(f"--per-page {per_page}: at least 1")
    layout, snapshot = open_snapshot(cohort)
    chosen = studies_of(read_table(snapshot / "studies.parquet", columns=SHEET_COLUMNS), group)
    first = out or Path(f"contact-{group}.html")
    for sheet in contact_sheets(layout, snapshot.name, chosen, group, per_page):
        path = first if sheet.number == 1 else first.with_stem(f"{first.stem}-{sheet.number}")
        replace(path, sheet.html.encode())
        print(f"{path}: {sheet.studies} studies, {sheet.with_picture} with a picture")


# -- a study of a cohort ------------------------------------------------------------------------------------------


def _show_stored(cohort: str, study: str | None, out: Path | None, export: Path | None) -> None:
    from vertebra_core.cohort.layout import open_layout
    from vertebra_core.errors import CouldNotRun, WrongUse
    from vertebra_core.truth import write_truth

    layout = open_layout(cohort)
    if study is None:
        raise WrongUse(f"which study? vertebra show {cohort} STUDY_KEY (keys: column study_key of the studies table)")
    row = _study_row(layout, study)
    picture = layout.picture(study)
    if not picture.exists():
        why = row["reason"] or "pictures were switched off (run.pictures)"
        raise CouldNotRun(f"no picture of {study}: {row['status']}, {why}")
    if out is not None:
        out.write_bytes(picture.read_bytes())
    if export is not None:
        write_truth(_stored_truth(layout, row), export)
    _print_written(out or picture, export)


def _study_row(layout, study: str) -> dict:
    from vertebra_core.cohort.snapshot import latest_snapshot
    from vertebra_core.errors import WrongUse
    from vertebra_core.tables.parquet import read_table

    columns = ["study_key", "series_key", "status", "reason"]
    for table, key in (("studies", "study_key"), ("other_series", "series_key")):
        path = latest_snapshot(layout) / f"{table}.parquet"
        rows = read_table(path, columns=columns, filters=[(key, "==", study)]).to_pylist()
        if rows:
            return {**rows[0], "vertebrae": "vertebrae" if key == "study_key" else "other_vertebrae"}
    raise WrongUse(f"no study {study} in {layout.root}")


def _stored_truth(layout, row: dict) -> "Truth":
    """The keypoints of the published table; the series by its key, which `vertebra evaluate` knows, too."""
    import numpy as np

    from vertebra_core.cohort.snapshot import latest_snapshot
    from vertebra_core.measure import KEYPOINT_NAMES
    from vertebra_core.tables.parquet import read_table
    from vertebra_core.truth import Truth

    path = latest_snapshot(layout) / f"{row['vertebrae']}.parquet"
    table = read_table(path, filters=[("series_key", "==", row["series_key"])]).sort_by("vertebra_index")
    points = [[table[f"{name}_{axis}_mm"].to_numpy() for axis in "xyz"] for name in KEYPOINT_NAMES]
    complete = np.array(table["complete"].to_pylist(), bool)
    return Truth(
        row["series_key"], "vertebra", np.moveaxis(np.array(points), -1, 0), complete, tuple(table["level"].to_pylist())
    )
