"""``vertebra explain``: from a printed number to its studies and pictures, and the SQL that finds them."""

from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from flows.printing import ABSENT, percent, print_json, print_table

if TYPE_CHECKING:
    import pyarrow as pa

    from vertebra_core.cohort.layout import Layout
    from vertebra_core.epidemiology.analysis import Analysis
    from vertebra_core.epidemiology.lineage import Asked, Database, Statements
    from vertebra_core.storage import Place

LISTED = 20
"""Rows that are listed unless more are asked for."""


def explain(
    cohort: str,
    *,
    by: str | None = None,
    stratum: str | None = None,
    unit: Literal["patients", "vertebrae"] | None = None,
    threshold: str | None = None,
    grade: str | None = None,
    min_vertebrae: int | None = None,
    definition: Literal["genant", "height-loss", "level-adjusted"] = "genant",
    moderate: float | None = None,
    mild: float | None = None,
    severe: float | None = None,
    index_rule: Literal["earliest", "latest", "most-vertebrae", "thinnest"] = "earliest",
    youngest: int | None = None,
    oldest: int | None = None,
    rows: int = LISTED,
    all_rows: Annotated[bool, Parameter(name="--all", negative=())] = False,
    excluded: Annotated[bool, Parameter(negative=())] = False,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Show which patients or vertebrae stand behind a number of `vertebra prevalence`, and the SQL that was executed.

    Give the same options as there, and the group by its printed name. Prints numerator and denominator, the rows of
    the numerator with their keys, levels, ratios and pictures, who was not counted and why, and the SQL of all of it,
    which runs unchanged in DuckDB.

    Example: vertebra explain spines --by sex --stratum F --threshold 0.74

    Example: vertebra explain spines --by sex,level --stratum "F, T12" --grade severe --all --json

    Parameters
    ----------
    cohort
        A cohort, of which the newest snapshot is taken, or a snapshot: COHORT/snapshots/ID.
    by
        The strata of the number: sex, age_band, scanner, site, year or level, or several: sex,age_band.
    stratum
        The group as it is printed: F, or "F, 70-79". Without it, everybody.
    unit
        Patients, or vertebrae (which they are by level).
    threshold
        At this ratio or below: a number, or mild, moderate (default) or severe.
    grade
        One grade alone instead, as printed --by grade.
    min_vertebrae
        Measured vertebrae that a patient needs to be counted (7).
    definition
        What is held against the bounds.
    moderate
        Bound of moderate (as the snapshot was graded: 0.74).
    mild
        Bound of mild (0.80).
    severe
        Bound of severe (0.60).
    index_rule
        Which study of a patient counts.
    youngest
        Leave out patients who are younger, in completed years, and those without age.
    oldest
        Leave out patients who are older, and those without age.
    rows
        Most rows that are listed.
    all_rows
        List all of them.
    excluded
        List who was not counted instead.
    as_json
        Print one JSON document.
    """
    from flows.commands.prevalence import grading_of, strata_of
    from vertebra_core.cohort.snapshot import open_snapshot
    from vertebra_core.epidemiology import lineage
    from vertebra_core.epidemiology.analysis import MIN_VERTEBRAE, Analysis
    from vertebra_core.errors import WrongUse

    strata = strata_of(by)
    if "grade" in strata:
        raise WrongUse("--by grade: name the grade with --grade")
    unit = unit or ("vertebrae" if "level" in strata else "patients")
    if unit == "patients" and "level" in strata:
        raise WrongUse("by level there are vertebrae only: --unit vertebrae")
    if rows < 0:
        raise WrongUse(f"--rows {rows}: 0 or more")
    layout, snapshot = open_snapshot(cohort)
    analysis = Analysis(
        grading=grading_of(snapshot, mild, moderate, severe),
        definition=definition,
        by=strata,
        min_vertebrae=MIN_VERTEBRAE if min_vertebrae is None else min_vertebrae,
        index_rule=index_rule,
        youngest=youngest,
        oldest=oldest,
    )
    asked = lineage.asked_of(analysis, unit, threshold, grade)
    database = lineage.Database(snapshot)
    dated_by = _dated_by(database, snapshot) if index_rule == "latest" else None
    if stratum is not None and strata:
        groups = database.table(lineage.group_statement(snapshot, analysis, dated_by)).to_pylist()
        asked = lineage.for_group(asked, analysis, stratum, [tuple(group.values()) for group in groups])
    elif stratum is not None:
        raise WrongUse(f"--stratum {stratum}: of which --by?")
    texts = lineage.statements(snapshot, analysis, asked, dated_by, None if all_rows else rows)
    _answer(database, layout, analysis, asked, texts, excluded, as_json)


def _dated_by(database: "Database", snapshot: "Place") -> str | None:
    """The column that tells the order of studies best."""
    from vertebra_core.epidemiology.lineage import dating_statement

    counts = database.table(dating_statement(snapshot)).to_pylist()[0]
    return next((name for name, n in counts.items() if n), None)


def _answer(
    database: "Database",
    layout: "Layout",
    analysis: "Analysis",
    asked: "Asked",
    texts: "Statements",
    excluded: bool,
    as_json: bool,
) -> None:
    counts = database.table(texts.counts).to_pylist()[0]
    reasons = {row["why"]: row["n"] for row in database.table(texts.excluded).to_pylist()}
    listed = database.table(texts.excluded_rows if excluded else texts.rows)
    shown = _with_pictures(listed, layout)
    sql = {
        "counts": texts.counts,
        "excluded": texts.excluded,
        **({"excluded_rows": texts.excluded_rows} if excluded else {"rows": texts.rows}),
    }
    if as_json:
        about = {"unit": asked.unit, "group": ", ".join(asked.labels) or "all", "analysis": analysis}
        bounds = {"above": asked.above, "bound": asked.bound}
        print_json({**about, **bounds, **counts, "excluded": reasons, "rows": shown, "sql": sql})
    else:
        _print(counts, reasons, shown, asked, excluded, sql)


def _with_pictures(listed: "pa.Table", layout: "Layout") -> list[dict]:
    """The rows, each with the place of its picture where there is one."""
    found: dict[str | None, str | None] = {None: None}
    rows = listed.to_pylist()
    for row in rows:
        key = row["study_key"]
        if key not in found:
            path = layout.picture(key)
            found[key] = str(path) if path.exists() else None
        row["picture"] = found[key]
    return rows


def _print(
    counts: dict, reasons: dict[str, int], rows: list[dict], asked: "Asked", excluded: bool, sql: dict[str, str]
) -> None:
    n, of = counts["numerator"], counts["denominator"]
    share = percent(n / of) if of else ABSENT
    print(f"{', '.join(asked.labels) or 'all'}: {n} of {of} {asked.unit} ({share} %) have {_between(asked)}.\n")
    print_table("Not counted", ["why", asked.unit], [[why, str(count)] for why, count in reasons.items()])
    title = f"Not counted, {asked.unit}" if excluded else f"These {asked.unit}, the smallest ratio first"
    names = list(rows[0]) if rows else ["study_key"]
    print_table(title, names, [[_cell(row[name]) for name in names] for row in rows], text=names)
    if not excluded and len(rows) < n:
        print(f"{len(rows)} of {n} are listed; --all lists all of them.")
    for name, text in sql.items():
        print(f"\n-- {name}\n{text};")


def _between(asked: "Asked") -> str:
    if asked.above is not None and asked.bound is not None:
        return f"a ratio above {asked.above:g} and up to {asked.bound:g}"
    return f"a ratio above {asked.above:g}" if asked.bound is None else f"a ratio <= {asked.bound:g}"


def _cell(value: object) -> str:
    if value is None:
        return ABSENT
    return f"{value:.4f}" if isinstance(value, float) else str(value)
