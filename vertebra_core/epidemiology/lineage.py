"""From a printed number back to its studies: SQL that counts what `vertebra prevalence` counts, and lists the rows.

The counts of `vertebra_core.epidemiology.prevalence` are made from arrays; these statements say the same in SQL over
the published tables, for DuckDB. They are two accounts of one definition, and tests hold them together. What is shown
is what is executed: a `Statement` is a text without parameters.
"""

import glob
from dataclasses import dataclass, replace
from typing import Literal

import pyarrow as pa

from vertebra_core.epidemiology.analysis import Analysis
from vertebra_core.epidemiology.definitions import MIN_REFERENCE, TRIM
from vertebra_core.epidemiology.selection import IndexRule
from vertebra_core.epidemiology.strata import AGE_BANDS, NOT_KNOWN, OLDEST_BAND, YOUNGEST_BAND
from vertebra_core.errors import CouldNotRun, WrongUse
from vertebra_core.storage import Place
from vertebra_core.tables.columns import GRADES
from vertebra_core.tables.grades import FLOATING_ERROR

Unit = Literal["patients", "vertebrae"]
TABLES = ("studies", "patients", "vertebrae")
NO_AGE = "age not known"
WHEN = ("study_date", "study_day", "study_year")
"""What tells the order of a patient's studies, the best first."""


@dataclass(frozen=True)
class Asked:
    """Which number is to be explained.

    Parameters
    ----------
    unit : str
    above, bound : float or None
        Counted are ratios above the one (None: any) and at most the other (None: any).
    labels : tuple of str
        Of each stratum of the analysis; empty for everybody.
    """

    unit: Unit
    above: float | None
    bound: float | None
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Statements:
    """SQL texts.

    Parameters
    ----------
    counts : str
        One row: numerator, denominator.
    rows : str
        The numerator, one row each, the smallest ratio first.
    excluded : str
        Who is in the tables and not in the denominator: how many for which reason.
    excluded_rows : str
        The same one by one.
    """

    counts: str
    rows: str
    excluded: str
    excluded_rows: str


def asked_of(analysis: Analysis, unit: Unit, threshold: str | None, grade: str | None) -> Asked:
    """Bounds of a number: at most a threshold (a number, or the name of a grade), or one grade alone.

    Raises
    ------
    WrongUse
        Both or neither a number nor a grade.
    """
    grading = analysis.grading
    bounds = {"mild": grading.mild, "moderate": grading.moderate, "severe": grading.severe}
    if threshold is not None and grade is not None:
        raise WrongUse("--threshold counts from a grade on, --grade one grade alone: give one of them")
    if grade is not None:
        if grade not in GRADES:
            raise WrongUse(f"--grade {grade}: there are {', '.join(GRADES)}")
        upper = [None, *bounds.values(), None]
        number = GRADES.index(grade)
        return Asked(unit, upper[number + 1], upper[number])
    if threshold is None or threshold in bounds:
        return Asked(unit, None, bounds[threshold or "moderate"])
    try:
        bound = float(threshold)
    except ValueError:
        raise WrongUse(f"--threshold {threshold}: a number, or one of {', '.join(bounds)}") from None
    if not 0 < bound < 2:
        raise WrongUse(f"--threshold {threshold}: a ratio of heights, such as {grading.moderate}")
    return Asked(unit, None, bound)


def for_group(asked: Asked, analysis: Analysis, name: str | None, groups: list[tuple[str, ...]]) -> Asked:
    """The same of one group, named as it is printed ("F, 70-79").

    Raises
    ------
    WrongUse
        No such group.
    """
    if name is None:
        return asked
    if not analysis.by:
        raise WrongUse(f"--stratum {name}: of which --by?")
    wanted = name.replace(", ", ",")
    for labels in groups:
        if ",".join(labels).replace(", ", ",") == wanted:
            return replace(asked, labels=labels)
    shown = "; ".join(", ".join(labels) for labels in groups[:20])
    raise WrongUse(f"--stratum {name}: there are {shown}{' ...' if len(groups) > 20 else ''}")


def group_statement(snapshot: Place, analysis: Analysis, dated_by: str | None) -> str:
    """SQL of the groups that occur, a column for each stratum."""
    source = "judged JOIN people USING (study_key)" if "level" in analysis.by else "people"
    columns = ", ".join(f"{_label(name)} AS {name}" for name in analysis.by)
    return f"{_people_and_judged(snapshot, analysis, dated_by)}\nSELECT DISTINCT {columns}\nFROM {source}\nORDER BY ALL"


def statements(
    snapshot: Place, analysis: Analysis, asked: Asked, dated_by: str | None, limit: int | None = None
) -> Statements:
    """All texts of one number.

    Parameters
    ----------
    snapshot : Place
        Folder of the published tables.
    analysis : Analysis
        As `vertebra prevalence` takes it; standards and corrections are not counts, and play no part.
    asked : Asked
    dated_by : str or None
        The first of `WHEN` that the snapshot tells; from `dating_statement`.
    limit : int, optional
        Most rows that are listed.
    """
    common = _people_and_judged(snapshot, analysis, dated_by)
    pairs = zip(analysis.by, asked.labels, strict=bool(asked.labels))
    here = " AND ".join(f"{_label(name)} = {quoted(label)}" for name, label in pairs)
    inside = f"\n    AND {here}" if here else ""
    positive, last = _positive(asked), "" if limit is None else f"\nLIMIT {limit}"
    counted = f"{common}, counted AS (\n{_counted(analysis, asked.unit)}{inside}\n)"
    without = f"{common}, without AS (\n{_without(snapshot, analysis, asked.unit, here)}\n)"
    own = "n_judged, " if asked.unit == "patients" else ""
    return Statements(
        f"{counted}\nSELECT count(*) FILTER ({positive}) AS numerator, count(*) AS denominator\nFROM counted",
        f"{counted}\nSELECT patient_key, study_key, {own}vertebra_index, level, ratio\nFROM counted\n"
        f"WHERE {positive}\nORDER BY ratio, study_key, vertebra_index{last}",
        f"{without}\nSELECT why, count(*) AS n FROM without WHERE why IS NOT NULL GROUP BY why ORDER BY n DESC, why",
        f"{without}\nSELECT * FROM without WHERE why IS NOT NULL ORDER BY ALL{last}",
    )


def dating_statement(snapshot: Place) -> str:
    """SQL of how many studies have each of `WHEN`."""
    counts = ", ".join(f"count({name}) AS {name}" for name in WHEN)
    return f"SELECT {counts} FROM {_table(snapshot, 'studies')}"


class Database:
    """DuckDB over a snapshot, in memory and offline.

    Parameters
    ----------
    snapshot : Place
        A folder, or a place in a store.
    """

    def __init__(self, snapshot: Place) -> None:
        import duckdb

        self._error = duckdb.Error
        self._connection = duckdb.connect(config={"autoinstall_known_extensions": "false"})
        fs = getattr(snapshot, "fs", None)
        if fs is not None and hasattr(snapshot, "protocol"):
            self._connection.register_filesystem(fs)

    def table(self, sql: str) -> pa.Table:
        """The answer to a statement.

        Raises
        ------
        CouldNotRun
            A table is missing or cannot be read.
        """
        try:
            return self._connection.sql(sql).to_arrow_table()
        except self._error as error:
            raise CouldNotRun(f"DuckDB: {error}") from error


def quoted(text: str) -> str:
    """A text as an SQL literal.

    Examples
    --------
    >>> quoted("St. John's")
    "'St. John''s'"
    """
    return "'" + text.replace("'", "''") + "'"


def _table(snapshot: Place, name: str) -> str:
    # a cohort below a folder called "site=3" is no partition of a data set, and "night [1]" is no pattern
    path = glob.escape(str(snapshot / f"{name}.parquet"))
    return f"read_parquet({quoted(path)}, hive_partitioning = false)"


def _people_and_judged(snapshot: Place, analysis: Analysis, dated_by: str | None) -> str:
    """Index studies of the ages studied (`people`), and their measured vertebrae with the ratio (`judged`)."""
    of_age = _of_age(analysis)
    of_age = f"\n  WHERE {of_age}" if of_age else ""
    return (
        f"WITH index_studies AS (\n{_index_studies(snapshot, analysis.index_rule, dated_by)}\n"
        f"), people AS (\n  SELECT * FROM index_studies{of_age}\n"
        f"), measured AS (\n"
        f"  SELECT study_key, v.vertebra_index, v.level, v.g, v.ha_mm, v.hm_mm, v.hp_mm, sex\n"
        f"  FROM {_table(snapshot, 'vertebrae')} v JOIN people USING (study_key)\n"
        f"  WHERE v.g IS NOT NULL\n"
        f"), {_judged(analysis)}"
    )


def _index_studies(snapshot: Place, rule: IndexRule, dated_by: str | None) -> str:
    studies = _table(snapshot, "studies")
    if rule == "earliest":
        return (
            f"  SELECT s.* FROM {studies} s\n  JOIN {_table(snapshot, 'patients')} p ON s.study_key = p.index_study_key"
        )
    if rule == "latest" and dated_by is None:
        raise WrongUse("this snapshot tells no dates (privacy.dates is none): there is no latest study")
    thinnest, most, first = "slice_spacing_mm NULLS LAST", "n_vertebrae DESC", "study_key"
    order = {
        "latest": [f"{dated_by} DESC NULLS LAST", thinnest, most, first],
        "most-vertebrae": [most, thinnest, first],
        "thinnest": [thinnest, most, first],
    }[rule]
    return (
        f"  SELECT * FROM {studies}\n  WHERE n_vertebrae > 0\n"
        f"  QUALIFY row_number() OVER (PARTITION BY patient_key ORDER BY {', '.join(order)}) = 1"
    )


def _judged(analysis: Analysis) -> str:
    """Common table `judged`: measured vertebrae, with a NULL ratio where the definition cannot judge."""
    if analysis.definition == "genant":
        return "judged AS (\n  SELECT study_key, vertebra_index, level, g AS ratio FROM measured\n)"
    if analysis.definition == "height-loss":
        return (
            "judged AS (\n  SELECT study_key, vertebra_index, level,\n"
            "    CASE WHEN ha_mm IS NOT NULL AND hm_mm IS NOT NULL THEN least(ha_mm, hm_mm) / hp_mm END AS ratio\n"
            "  FROM measured\n)"
        )
    return (
        f"ratios AS (\n  SELECT *, coalesce(sex, {quoted(NOT_KNOWN)}) AS of_sex,\n"
        f"    ha_mm / hp_mm AS a, hm_mm / hp_mm AS m\n  FROM measured\n"
        f"), ranked AS (\n  SELECT level, of_sex, a, m,\n"
        f"    count(*) OVER (PARTITION BY level, of_sex) AS n, count(*) OVER (PARTITION BY level) AS n_level,\n"
        f"    row_number() OVER (PARTITION BY level, of_sex ORDER BY a) AS a_of_sex,\n"
        f"    row_number() OVER (PARTITION BY level, of_sex ORDER BY m) AS m_of_sex,\n"
        f"    row_number() OVER (PARTITION BY level ORDER BY a) AS a_of_level,\n"
        f"    row_number() OVER (PARTITION BY level ORDER BY m) AS m_of_level\n"
        f"  FROM ratios WHERE level IS NOT NULL AND a IS NOT NULL AND m IS NOT NULL\n"
        f"), own AS (\n  SELECT level, of_sex, {_trimmed('of_sex', 'n')}\n  FROM ranked\n"
        f"  GROUP BY level, of_sex HAVING count(*) >= {MIN_REFERENCE}\n"
        f"), pooled AS (\n  SELECT level, {_trimmed('of_level', 'n_level')}\n  FROM ranked\n"
        f"  GROUP BY level HAVING count(*) >= {MIN_REFERENCE}\n"
        f"), judged AS (\n  SELECT r.study_key, r.vertebra_index, r.level,\n"
        f"    least(r.a / coalesce(own.a, pooled.a), r.m / coalesce(own.m, pooled.m)) AS ratio\n"
        f"  FROM ratios r LEFT JOIN own ON own.level = r.level AND own.of_sex = r.of_sex\n"
        f"  LEFT JOIN pooled ON pooled.level = r.level\n)"
    )


def _trimmed(rank: str, n: str) -> str:
    """Means without the lowest and highest tenth."""
    cut = f"floor({TRIM!r} * {n})"
    return ", ".join(
        f"avg({ratio}) FILTER ({ratio}_{rank} > {cut} AND {ratio}_{rank} <= {n} - {cut}) AS {ratio}"
        for ratio in ("a", "m")
    )


def _counted(analysis: Analysis, unit: Unit) -> str:
    """What makes the denominator."""
    if unit == "vertebrae":
        return (
            "  SELECT people.*, vertebra_index, level, ratio\n"
            "  FROM people JOIN judged USING (study_key)\n  WHERE ratio IS NOT NULL"
        )
    return (
        "  SELECT people.*, vertebra_index, level, ratio, n_judged\n"
        "  FROM people JOIN (\n"
        "    SELECT study_key, count(*) AS n_judged, min(ratio) AS ratio,\n"
        "      first(vertebra_index ORDER BY ratio, vertebra_index) AS vertebra_index,\n"
        "      first(level ORDER BY ratio, vertebra_index) AS level\n"
        "    FROM judged WHERE ratio IS NOT NULL GROUP BY study_key\n"
        "  ) USING (study_key)\n"
        f"  WHERE n_judged >= {max(analysis.min_vertebrae, 1)}"
    )


def _without(snapshot: Place, analysis: Analysis, unit: Unit, here: str) -> str:
    """Every patient or vertebra of the tables with the first reason not to count, NULL for those that do."""
    inside = f"\n  WHERE i.study_key IS NULL OR ({here})" if here else ""
    of_age, aged, any_group = _of_age(analysis), "", ", of any group" if here else ""
    if of_age:
        aged = (
            f"    WHEN i.age_years IS NULL THEN {quoted(NO_AGE)}\n"
            f"    WHEN NOT ({of_age}) THEN {quoted('not of the ages studied')}\n"
        )
    if unit == "vertebrae":
        return (
            "  SELECT v.patient_key, v.study_key, v.vertebra_index, v.level, CASE\n"
            f"    WHEN i.study_key IS NULL THEN {quoted(f'of another study than the index study{any_group}')}\n{aged}"
            f"    WHEN v.g IS NULL THEN {quoted('not measured')}\n"
            f"    WHEN j.ratio IS NULL THEN {quoted('cannot be judged by the definition')} END AS why\n"
            f"  FROM {_table(snapshot, 'vertebrae')} v LEFT JOIN index_studies i ON i.study_key = v.study_key\n"
            "  LEFT JOIN (SELECT study_key, vertebra_index, ratio FROM judged) j\n"
            f"    ON j.study_key = v.study_key AND j.vertebra_index = v.vertebra_index{inside}"
        )
    least = max(analysis.min_vertebrae, 1)
    return (
        "  SELECT p.patient_key, i.study_key, n_judged, CASE\n"
        f"    WHEN i.study_key IS NULL THEN {quoted(f'no study with a measured vertebra{any_group}')}\n{aged}"
        f"    WHEN coalesce(n_judged, 0) < {least} THEN {quoted(f'fewer than {least} vertebrae')} END AS why\n"
        f"  FROM (SELECT patient_key FROM {_table(snapshot, 'patients')}) p\n"
        "  LEFT JOIN index_studies i ON i.patient_key = p.patient_key\n"
        "  LEFT JOIN (SELECT study_key, count(ratio) AS n_judged FROM judged GROUP BY study_key) n\n"
        f"    ON n.study_key = i.study_key{inside}"
    )


def _of_age(analysis: Analysis) -> str:
    """SQL of who is of the ages studied; empty where all are."""
    ends = (analysis.youngest, ">="), (analysis.oldest, "<=")
    return " AND ".join(f"floor(age_years) {sign} {age!r}" for age, sign in ends if age is not None)


def _positive(asked: Asked) -> str:
    parts = []
    if asked.bound is not None:
        parts.append(f"ratio <= {asked.bound!r} + {FLOATING_ERROR!r}")
    if asked.above is not None:
        parts.append(f"ratio > {asked.above!r} + {FLOATING_ERROR!r}")
    return " AND ".join(parts) or "true"


def _label(name: str) -> str:
    """The label of a row of `people` (for levels: of `judged`) in a stratum."""
    unknown = quoted(NOT_KNOWN)
    if name == "age_band":
        starts = range(OLDEST_BAND, YOUNGEST_BAND - 1, -10)
        bands = zip(starts, AGE_BANDS[-2:0:-1], strict=True)
        whens = " ".join(f"WHEN age_years >= {start} THEN {quoted(band)}" for start, band in bands)
        return f"CASE {whens} WHEN age_years IS NOT NULL THEN {quoted(AGE_BANDS[0])} ELSE {unknown} END"
    if name == "year":
        return (
            "CASE WHEN study_year > 0 THEN CAST(study_year AS VARCHAR) "
            f"WHEN study_date IS NOT NULL THEN CAST(year(study_date) AS VARCHAR) ELSE {unknown} END"
        )
    return f"coalesce({name}, {unknown})"
