"""The answer of ``vertebra prevalence`` as tables and sentences for people."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flows.printing import number, percent, print_table

if TYPE_CHECKING:
    from vertebra_core.epidemiology.analysis import Analysis, Flow, Group, Prevalence, Trend
    from vertebra_core.epidemiology.compare_definitions import DefinitionResult
    from vertebra_core.epidemiology.coverage import Coverage
    from vertebra_core.epidemiology.intervals import Estimate
    from vertebra_core.epidemiology.noise_groups import CorrectedGroup
    from vertebra_core.epidemiology.standardise import AgeBands
    from vertebra_core.epidemiology.trends import Slope

NOT_CORRECTED = "not corrected"
HIDDEN = "hidden"


def print_answer(
    answer: "Prevalence",
    analysis: "Analysis",
    studies: dict[str, int],
    grades: dict[str, dict[str, "Estimate"]],
    corrected: Sequence["CorrectedGroup"] = (),
) -> None:
    """Print who is counted, the groups of both units, and how the numbers were made.

    Parameters
    ----------
    answer : Prevalence
    analysis : Analysis
    studies : dict
        Number of studies by status.
    grades : dict
        Unit -> distribution over grades; printed in place of groups where given.
    corrected : sequence of CorrectedGroup
        Shares without the noise of the heights, where asked for.
    """
    from vertebra_core.epidemiology.definitions import MEANING
    from vertebra_core.epidemiology.selection import RULE_SENTENCES

    _print_flow(answer.flow, answer.min_vertebrae, studies)
    print(RULE_SENTENCES[analysis.index_rule])
    if analysis.definition != "genant":
        print(f"Definition: {MEANING[analysis.definition]}.")
    if answer.flow.not_judged:
        print(
            f"{answer.flow.not_judged} measured vertebrae cannot be judged by it: no level, or too few of that level."
        )
    print()
    for unit, groups in (("patients", answer.patients), ("vertebrae", answer.vertebrae)):
        if unit in grades:
            _print_grades(unit, grades[unit])
        elif groups:
            _print_groups(unit, groups, analysis)
    if corrected:
        _print_corrected(corrected, analysis)
    if answer.coverage is not None:
        _print_coverage(answer.coverage, analysis)
    if answer.trend is not None:
        _print_trend(answer.trend)
    _print_remarks(answer, analysis)


def _print_corrected(groups: Sequence["CorrectedGroup"], analysis: "Analysis") -> None:
    """At both bounds; the whole curves are in the JSON document."""
    for unit in ("patients", "vertebrae"):
        rows = []
        for group in groups:
            if group.answer is None:
                rows.append([group.name, "", "", NOT_CORRECTED, ""])
                continue
            for bound in (analysis.grading.moderate, analysis.grading.mild):
                at = group.answer.at(bound, unit)
                spread = f"{percent(at.smaller_noise)} to {percent(at.larger_noise)}"
                rows.append([group.name, f"<= {bound:.2f}", _share(at.apparent), _share(at.corrected), spread])
        columns = [" x ".join(analysis.by) or unit, "G", "as read, %", "without noise, % (95 % CI)", "noise -+ 20 %"]
        print_table(f"Fractured {unit}, corrected for the noise of the heights", columns, rows)
    for group in groups:
        if group.answer is None:
            print(f"{group.name}: not corrected: {group.not_corrected}.")
        for remark in () if group.answer is None else group.answer.remarks:
            print(f"{group.name}: {remark}")
    known = next((group.answer.noise for group in groups if group.answer is not None), None)
    if known is not None:
        print(f"Noise measured on {known.measured_on} from {known.n_patients} patients: {known.source}.")


def _print_flow(flow: "Flow", min_vertebrae: int, studies: dict[str, int]) -> None:
    ends = ", ".join(f"{status} {n}" for status, n in studies.items())
    rows = [
        ["studies", str(sum(studies.values())), ends],
        ["patients", str(flow.patients), ""],
        ["with a measured vertebra", str(flow.with_measurement), f"{flow.patients - flow.with_measurement} left out"],
    ]
    if flow.of_age < flow.with_measurement:
        left = flow.with_measurement - flow.of_age
        rows.append(
            ["of the ages studied", str(flow.of_age), f"{left} left out, {flow.age_unknown} of them without age"]
        )
    rows += [
        [
            f"with at least {min_vertebrae} in the index study",
            str(flow.analysed),
            f"{flow.of_age - flow.analysed} left out",
        ],
        ["of these without age", str(flow.without_age), "kept, as not known"],
        ["of these without sex", str(flow.without_sex), "kept, as not known"],
        ["measured vertebrae of index studies", str(flow.vertebrae), "of all patients with one"],
    ]
    print_table("Who is counted", ["", "n", "remark"], rows, text=("", "remark"))


def _print_groups(unit: str, groups: Sequence["Group"], analysis: "Analysis") -> None:
    moderate, mild = _symbol(analysis, analysis.grading.moderate), _symbol(analysis, analysis.grading.mild)
    columns = [" x ".join(analysis.by) or unit, "N", "n", f"{moderate}, % (95 % CI)"]
    if any(group.standardised for group in groups):
        columns.append("age-standardised")
    if any(group.corrected for group in groups):
        columns.append("corrected for Se, Sp")
    columns += ["n", f"{mild}, % ({NOT_CORRECTED})"]
    rows = []
    for group in groups:
        row = [group.name, _whole(group.moderate.n), *_counted(group.moderate)]
        if "age-standardised" in columns:
            row.append(_share(group.standardised.get("moderate")))
        if "corrected for Se, Sp" in columns:
            row.append(_share(group.corrected))
        rows.append([*row, *_counted(group.mild)])
    print_table(f"Fractured {unit}", columns, rows, last_is_total=len(rows) > 1)


def _print_grades(unit: str, grades: dict) -> None:
    """The distribution over grades; the bound between mild and normal is the one that noise blurs."""
    notes = {"normal": NOT_CORRECTED, "mild": NOT_CORRECTED}
    rows = [[name, _whole(one.n), *_counted(one), notes.get(name, "")] for name, one in grades.items()]
    title = "Patients by worst grade" if unit == "patients" else "Vertebrae by grade"
    columns = ["grade", "N", "n", "% (95 % CI)" if unit == "patients" else "% (95 % CI, as if independent)", ""]
    print_table(title, columns, rows, text=("grade", ""))


def _print_coverage(coverage: "Coverage", analysis: "Analysis") -> None:
    rows = [
        [
            level.level,
            _whole(level.in_view),
            _whole(level.judged),
            _whole(level.moderate),
            _share(level.weighted),
            number(level.weighted.n_effective if level.weighted else None, 0),
            percent(level.never_seen),
        ]
        for level in coverage.levels
    ]
    if coverage.mean is not None:
        span = f"mean of {coverage.mean_over[0]} to {coverage.mean_over[-1]}"
        rows.append([span, "", "", "", _share(coverage.mean), "", ""])
    columns = ["level", "in view", "measured", "n", f"{_symbol(analysis, analysis.grading.moderate)}, weighted, %"]
    title = f"Weighted by inverse coverage ({' x '.join(coverage.strata)}), of {coverage.n_patients} index studies"
    print_table(title, [*columns, "n eff.", "never seen, %"], rows, last_is_total=coverage.mean is not None)
    if coverage.capped:
        print(f"{coverage.capped} vertebrae had their weight capped.")


def _print_trend(trend: "Trend") -> None:
    def odds(slope: "Slope | None") -> str:
        if slope is None:
            return "cannot be estimated"
        return f"odds x {slope.odds_ratio:.2f} ({slope.low:.2f}-{slope.high:.2f}) {trend.step}, {slope.method}"

    test = trend.patients_test
    armitage = "" if test is None else f"; Cochran-Armitage chi2 {test.chi2:.2f}, p {test.p:.2g}"
    print(f"Trend over {trend.over}, patients: {odds(trend.patients)}{armitage}.")
    print(f"Trend over {trend.over}, vertebrae: {odds(trend.vertebrae)}.\n")


def _print_remarks(answer: "Prevalence", analysis: "Analysis") -> None:
    if answer.standard is not None:
        _print_standard(answer.standard, answer, analysis)
    for group in answer.patients:
        if group.corrected is not None and group.corrected.warning:
            raw = percent(group.corrected.raw)
            print(f"Warning, {group.name}: corrected to {raw} % by formula; {group.corrected.warning}.")
    where = f"In tables that say so, at least mild is {NOT_CORRECTED} for measurement noise"
    print(f"{where}: do not report it as a prevalence.")
    way = {"auto": "beta below 40 patients, else logit", "gee": "exchangeable GEE"}.get(
        analysis.vertebra_interval, analysis.vertebra_interval
    )
    print(f"Intervals: {analysis.interval} for patients; for vertebrae patients are clusters ({way}).")


def _print_standard(bands: "AgeBands", answer: "Prevalence", analysis: "Analysis") -> None:
    assert analysis.standard is not None
    print(
        f"Standardised to the {analysis.standard.name}, truncated to the ages studied ({_ages(bands)}: "
        f"{percent(bands.share_of_standard)} % of it) and renormalised; interval: {analysis.standard_interval}."
    )
    if bands.joined:
        print(f"Age bands joined because a group had nobody in a part of them: {', '.join(bands.joined)}.")
    print(f"Not in standardised shares, without age or outside the standard: {answer.flow.outside_standard} patients.")


def _ages(bands: "AgeBands") -> str:
    """From the first band to the last.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> _ages(SimpleNamespace(names=("50-54", "55-59", "60+")))
    '50 and over in 3 bands'
    """
    start, (_, _, end) = bands.names[0].partition("-")[0], bands.names[-1].partition("-")
    span = f"{start} to {end}" if end else f"{start.rstrip('+')} and over"
    return f"{span} in {len(bands.names)} bands"


def print_definitions(results: Sequence["DefinitionResult"], analysis: "Analysis") -> None:
    """Print all definitions side by side.

    Parameters
    ----------
    results : sequence of DefinitionResult
    analysis : Analysis
        Its bounds hold for all definitions.
    """
    from vertebra_core.epidemiology.definitions import MEANING

    moderate, mild = (f"<= {bound:.2f}" for bound in (analysis.grading.moderate, analysis.grading.mild))
    for unit in ("patients", "vertebrae"):
        rows = []
        for one in results:
            group = getattr(one, unit)
            rows.append([one.name, _whole(group.moderate.n), *_counted(group.moderate), *_counted(group.mild)])
        columns = ["definition", "N", "n", f"{moderate}, % (95 % CI)", "n", f"{mild}, % ({NOT_CORRECTED})"]
        print_table(f"Fractured {unit}, by definition", columns, rows)
    rows = []
    for one in results:
        counts = one.agreement
        cells = (counts.both, counts.only_this, counts.only_genant, counts.neither, one.not_judged)
        rows.append([one.name, *map(str, cells), number(counts.kappa)])
    columns = ["definition", "both", "only this", "only genant", "neither", "not judged", "kappa"]
    print_table(f"Vertebrae {moderate} by a definition and by Genant's index", columns, rows)
    for name in (one.name for one in results):
        print(f"{name}: {MEANING[name]}.")


def _symbol(analysis: "Analysis", bound: float) -> str:
    return f"{'G' if analysis.definition == 'genant' else 'ratio'} <= {bound:.2f}"


def _share(estimate) -> str:
    """Anything with a share and its limits; a hidden cell has a number of people, or none, but no share."""
    if estimate is None or estimate.share is None:
        return "n/a"
    return f"{percent(estimate.share)} ({percent(estimate.low)}-{percent(estimate.high)})"


def _counted(estimate: "Estimate") -> tuple[str, str]:
    if estimate.count is None:
        return HIDDEN, HIDDEN
    return str(estimate.count), _share(estimate)


def _whole(value: int | None) -> str:
    return HIDDEN if value is None else str(value)
