"""``vertebra prevalence``: how many patients and vertebrae are fractured, with intervals."""

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from flows.printing import print_json

if TYPE_CHECKING:
    from vertebra_core.epidemiology.analysis import Accuracy, Analysis
    from vertebra_core.epidemiology.cases import Tables
    from vertebra_core.settings import GradingSettings
    from vertebra_core.storage import Place

GRADE = "grade"
"""Not a stratum: the distribution over grades in place of "at least moderate"."""


def prevalence(
    cohort: str,
    *,
    by: str | None = None,
    min_vertebrae: int | None = None,
    definition: Literal["genant", "height-loss", "level-adjusted"] = "genant",
    moderate: float | None = None,
    mild: float | None = None,
    severe: float | None = None,
    index_rule: Literal["earliest", "latest", "most-vertebrae", "thinnest"] = "earliest",
    youngest: int | None = None,
    oldest: int | None = None,
    interval: Literal["wilson", "clopper-pearson", "gamma", "tiwari"] = "wilson",
    vertebra_interval: Literal["auto", "logit", "beta", "bootstrap", "gee"] = "auto",
    standard: str | None = None,
    empty_bands: Literal["join", "refuse"] = "join",
    se: float | None = None,
    sp: float | None = None,
    se_n: int | None = None,
    sp_n: int | None = None,
    noise: Literal["own", "shipped"] | None = None,
    compare_definitions: Annotated[bool, Parameter(negative=())] = False,
    hide_small: Annotated[bool, Parameter(negative=())] = False,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Prevalence of vertebral fractures by patient and by vertebra, with 95 % intervals.

    The headline is at least moderate (G <= 0.74). At least mild (G <= 0.80) is not corrected: measurement
    noise alone carries many normal vertebrae across that bound. Of each patient one index study counts.
    Formulas, sources and defaults: docs/prevalence.md.

    Example: vertebra prevalence spines --by sex,age_band --standard esp2013

    Parameters
    ----------
    cohort
        The cohort, already screened: a folder or an s3:// URL. Or one of its snapshots: COHORT/snapshots/ID.
    by
        Group by sex, age_band, scanner, site, year or level, or by several at once: sex,age_band. Or by grade.
    min_vertebrae
        Measured vertebrae that a patient needs to be counted (7).
    definition
        What is held against the bounds: Genant's index, the loss of anterior or middle height against the posterior
        one, or the ratios ha/hp and hm/hp over their trimmed mean in this cohort at the level and sex.
    moderate
        At least moderate at this ratio or below (as the snapshot was graded: 0.74).
    mild
        At least mild at this ratio or below (0.80).
    severe
        Severe at this ratio or below (0.60).
    index_rule
        Which study of a patient counts.
    youngest
        Leave out patients who are younger, in completed years, and those without age.
    oldest
        Leave out patients who are older, and those without age.
    interval
        Of shares of patients; gamma (Fay-Feuer) and tiwari are for standardised shares, others then are Wilson's.
    vertebra_interval
        Of shares of vertebrae, with patients as clusters: auto is beta below 40 patients and logit from there on.
    standard
        Standardise shares of patients by age to esp2013, who, us2000 or a CSV file of bands and weights.
    empty_bands
        Join age bands that are empty in a group with their neighbours, or refuse.
    se
        Sensitivity for at least moderate in a patient; the share of patients is corrected for it (needs --sp).
    sp
        Specificity (needs --se).
    se_n
        Fractured patients on whom the sensitivity was estimated (needs --sp-n).
    sp_n
        Patients without fracture on whom the specificity was estimated (needs --se-n).
    noise
        Correct the shares for the noise of the heights (half a minute a group): own, as `vertebra noise` measured it
        and left it beside the cohort, or shipped, from replicate reads of phantoms and public CT by these networks.
    compare_definitions
        Show all definitions side by side instead.
    hide_small
        Hide cells of fewer than 5 people.
    as_json
        Print one JSON document.
    """
    from flows import prevalence_tables as printed
    from vertebra_core.cohort.snapshot import open_snapshot
    from vertebra_core.epidemiology import compare_definitions as comparison
    from vertebra_core.epidemiology import small_cells
    from vertebra_core.epidemiology.analysis import MIN_VERTEBRAE, Analysis
    from vertebra_core.epidemiology.prevalence import by_grade
    from vertebra_core.epidemiology.prevalence import prevalence as count
    from vertebra_core.epidemiology.standard_populations import standard_population
    from vertebra_core.epidemiology.standardise import EmptyBand
    from vertebra_core.errors import WrongUse

    strata = strata_of(by)
    grades = strata == (GRADE,)
    for_standard = interval in ("gamma", "tiwari")
    if for_standard and standard is None:
        raise WrongUse(f"--interval {interval} is for standardised shares: give --standard, too")
    if min_vertebrae is not None and min_vertebrae < 1:
        raise WrongUse(f"--min-vertebrae {min_vertebrae}: at least 1, as nothing is known of a patient without any")
    if youngest is not None and oldest is not None and oldest < youngest:
        raise WrongUse(f"--youngest {youngest} --oldest {oldest}: nobody is both")
    if compare_definitions and (strata or standard or hide_small or noise or se is not None):
        raise WrongUse("--compare-definitions goes without --by, --standard, --se, --noise and --hide-small")
    if noise and hide_small:
        raise WrongUse("--noise fits curves to groups; small cells in them cannot be hidden")
    if standard is not None and {"age_band", "level"} & set(strata):
        raise WrongUse("--standard takes age out of shares of patients: it cannot go with --by age_band or level")
    layout, snapshot = open_snapshot(cohort)
    analysis = Analysis(
        grading=grading_of(snapshot, mild, moderate, severe),
        definition=definition,
        by=() if grades else strata,
        min_vertebrae=MIN_VERTEBRAE if min_vertebrae is None else min_vertebrae,
        index_rule=index_rule,
        youngest=youngest,
        oldest=oldest,
        interval="wilson" if for_standard else interval,
        vertebra_interval=vertebra_interval,
        standard=None if standard is None else standard_population(standard),
        standard_interval=interval,
        collapse=empty_bands == "join",
        accuracy=_accuracy(se, sp, se_n, sp_n),
    )
    tables = _tables(snapshot, analysis, heights=compare_definitions or noise is not None)
    about = {
        "snapshot": snapshot.name,
        **_choices(analysis),
        "studies": _ends(tables),
        "mild_is": printed.NOT_CORRECTED,
    }
    if compare_definitions:
        results = comparison.compare_definitions(tables, analysis)
        if as_json:
            print_json({**about, "definitions": results})
        else:
            printed.print_definitions(results, analysis)
        return
    try:
        answer = count(tables, analysis)
    except (EmptyBand, ValueError) as error:
        raise WrongUse(str(error)) from None
    corrected = _corrected(noise, layout.root, snapshot, tables, analysis) if noise else ()
    if hide_small:
        answer = small_cells.hide_small(answer)
    units = ("patients", "vertebrae") if grades else ()
    distributions = {unit: by_grade(getattr(answer, unit)[-1]) for unit in units}
    if hide_small:
        distributions = {unit: small_cells.hide_small_grades(one) for unit, one in distributions.items()}
    if as_json:
        print_json(
            {**about, "prevalence": answer, **distributions, **({"noise_corrected": corrected} if noise else {})}
        )
    else:
        printed.print_answer(answer, analysis, about["studies"], distributions, corrected)


def strata_of(by: str | None) -> tuple:
    """The strata that ``--by`` names.

    Raises
    ------
    WrongUse
        A stratum that does not exist or is named twice, or grade beside others.
    """
    from vertebra_core.epidemiology.strata import STRATA
    from vertebra_core.errors import WrongUse

    names = tuple(name.strip() for name in by.split(",")) if by else ()
    for name in names:
        if name not in (*STRATA, GRADE):
            raise WrongUse(f"--by {name}: there are {', '.join(STRATA)}, several joined by commas, and {GRADE}")
    if len(set(names)) < len(names) or (GRADE in names and len(names) > 1):
        raise WrongUse(f"--by {by}: each stratum once, and {GRADE} alone")
    return names


def grading_of(
    snapshot: "Place", mild: float | None = None, moderate: float | None = None, severe: float | None = None
) -> "GradingSettings":
    """The bounds that the snapshot was graded with, so that this and its tables agree, but for those that are given."""
    from vertebra_core.errors import WrongUse
    from vertebra_core.settings import GradingSettings

    grading = GradingSettings(**json.loads((snapshot / "provenance.json").read_text())["grading"])
    given = {"mild": mild, "moderate": moderate, "severe": severe}
    grading = replace(grading, **{name: bound for name, bound in given.items() if bound is not None})
    if not 0 < grading.severe <= grading.moderate <= grading.mild:
        bounds = f"mild {grading.mild}, moderate {grading.moderate}, severe {grading.severe}"
        raise WrongUse(f"bounds fall from mild to severe, above 0: {bounds}")
    return grading


def _accuracy(se: float | None, sp: float | None, se_n: int | None, sp_n: int | None) -> "Accuracy | None":
    from vertebra_core.epidemiology.analysis import Accuracy
    from vertebra_core.errors import WrongUse

    if se is None and sp is None and se_n is None and sp_n is None:
        return None
    if se is None or sp is None:
        raise WrongUse("--se and --sp go together")
    try:
        return Accuracy(se, sp, se_n, sp_n)
    except ValueError as error:
        raise WrongUse(str(error)) from None


def _corrected(which: str, root: "Place", snapshot: "Place", tables: "Tables", analysis: "Analysis"):
    """Every group corrected for the noise that lies beside the cohort, or for that of the shipped networks."""
    from vertebra_core.epidemiology.noise_groups import corrected_groups
    from vertebra_core.epidemiology.noise_model import NOISE_FILE, SHIPPED, digest_of, read_noise

    place = SHIPPED if which == "shipped" else root / NOISE_FILE
    return corrected_groups(tables, analysis, read_noise(place), digest_of(snapshot))


def _tables(snapshot: "Place", analysis: "Analysis", heights: bool) -> "Tables":
    """Only the columns that the analysis needs."""
    from vertebra_core.epidemiology.cases import REPEATED, Tables, vertebra_columns
    from vertebra_core.epidemiology.selection import STUDY_COLUMNS
    from vertebra_core.tables.parquet import read_table

    columns = vertebra_columns("height-loss" if heights else analysis.definition)
    levels = None
    if analysis.by == ("level",):
        levels = read_table(snapshot / "levels_in_view.parquet", columns=["study_key", "level"], repeated=REPEATED)
    return Tables(
        read_table(snapshot / "patients.parquet", columns=["patient_key", "index_study_key"]),
        read_table(snapshot / "studies.parquet", columns=list(STUDY_COLUMNS)),
        read_table(snapshot / "vertebrae.parquet", columns=columns, repeated=REPEATED),
        levels,
    )


def _ends(tables: "Tables") -> dict[str, int]:
    """Number of studies by status."""
    counts = tables.studies["status"].value_counts().to_pylist()
    return {entry["values"]: entry["counts"] for entry in sorted(counts, key=lambda entry: entry["values"])}


def _choices(analysis: "Analysis") -> dict:
    """Every choice in words, so that a printed number can be made again."""
    from vertebra_core.epidemiology.definitions import MEANING
    from vertebra_core.epidemiology.intervals import CONFIDENCE
    from vertebra_core.epidemiology.selection import RULE_SENTENCES

    return {
        "grading": analysis.grading,
        "analysis": analysis,
        "definition": MEANING[analysis.definition],
        "index_rule": RULE_SENTENCES[analysis.index_rule],
        "confidence": CONFIDENCE,
    }
