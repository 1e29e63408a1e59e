"""Everything a report says, as numbers: one snapshot, read once, asked every question of the analysis."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from vertebra_core.cohort.snapshot import PROVENANCE
from vertebra_core.epidemiology.analysis import MIN_VERTEBRAE, Analysis, Group, Prevalence
from vertebra_core.epidemiology.cases import Tables, vertebra_columns
from vertebra_core.epidemiology.compare_definitions import DefinitionResult, compare_definitions
from vertebra_core.epidemiology.noise_groups import CorrectedGroup, corrected_groups
from vertebra_core.epidemiology.noise_model import NoiseModel
from vertebra_core.epidemiology.prevalence import Gathered, prevalence_of
from vertebra_core.epidemiology.prevalence import gather as gather_cases
from vertebra_core.epidemiology.selection import RULE_SENTENCES, STUDY_COLUMNS
from vertebra_core.epidemiology.small_cells import hide_small
from vertebra_core.epidemiology.standard_populations import STANDARDS
from vertebra_core.epidemiology.standardise import EmptyBand
from vertebra_core.epidemiology.strata import StratumName
from vertebra_core.report.distributions import (
    Apparent,
    Shapes,
    Spread,
    apparent_curve,
    shapes,
    spread_by_level,
)
from vertebra_core.report.gallery import GALLERY, GALLERY_COLUMNS, SEED, Gallery, choose
from vertebra_core.report.hidden import hide_quality, hide_shapes
from vertebra_core.report.participants import Participants, participants
from vertebra_core.report.quality import SECONDS_COLUMNS, Quality, quality
from vertebra_core.settings import GradingSettings
from vertebra_core.storage import Place
from vertebra_core.tables.parquet import read_table

PATIENT_COLUMNS = ("patient_key", "index_study_key", "n_evaluable_studies")
VERTEBRA_COLUMNS = (*vertebra_columns("height-loss"), "complete", "shape")
LEVEL_COLUMNS = ("study_key", "level")


@dataclass(frozen=True)
class Choices:
    """What a report is asked for.

    Parameters
    ----------
    gallery : int
        Studies with the lowest G that are shown, and as many at random; 0 for none.
    pictures : bool
        Show their pictures, not only their keys and numbers.
    hide_small : bool
        Hide cells of fewer than 5 people; what cannot be hidden cell by cell (curves, definitions, single studies) is
        left out.
    min_vertebrae : int
        Measured vertebrae that a patient needs to be counted.
    seed : int
        Of the random studies.
    """

    gallery: int = GALLERY
    pictures: bool = True
    hide_small: bool = False
    min_vertebrae: int = MIN_VERTEBRAE
    seed: int = SEED


@dataclass(frozen=True)
class StandardisedShare:
    """One group, standardised to one population.

    Parameters
    ----------
    standard : str
        Name for the command.
    ages : str
        Bands in force.
    outside : int or None
        Patients analysed who are not in it: without age, or outside its ages.
    """

    standard: str
    ages: str
    share_of_standard: float
    group: Group
    outside: int | None


@dataclass(frozen=True)
class Contents:
    """All numbers of a report.

    Parameters
    ----------
    snapshot : str
    provenance : mapping
        ``provenance.json`` of the snapshot.
    analysis : Analysis
        Choices that hold for all sections.
    everybody, by_age_and_sex : Prevalence
    by_sex, by_age : Prevalence or None
        None where small cells are hidden: with them, hidden cells could be had by subtraction.
    standardised : tuple of StandardisedShare
        Empty where nobody has an age within the standards.
    by_level : Prevalence
    definitions : tuple of DefinitionResult
    apparent : tuple of Apparent
    corrected : CorrectedGroup or None
        None where the noise was not asked for. Both empty where small cells are hidden.
    gallery : Gallery or None
    """

    snapshot: str
    provenance: Mapping[str, Any]
    choices: Choices
    analysis: Analysis
    index_rule: str
    participants: Participants
    everybody: Prevalence
    by_age_and_sex: Prevalence
    by_sex: Prevalence | None
    by_age: Prevalence | None
    standardised: tuple[StandardisedShare, ...]
    by_level: Prevalence
    spread: tuple[Spread, ...]
    shapes: tuple[Shapes, ...]
    definitions: tuple[DefinitionResult, ...]
    apparent: tuple[Apparent, ...]
    corrected: CorrectedGroup | None
    quality: Quality
    gallery: Gallery | None


def gather(snapshot: Place, choices: Choices, noise: NoiseModel | None = None) -> Contents:
    """Read a snapshot and count.

    Parameters
    ----------
    snapshot : Place
        Its folder.
    choices : Choices
    noise : NoiseModel, optional
        Correct the shares for it.

    Raises
    ------
    CouldNotRun
        Counts do not add up.
    WrongUse
        Noise of other networks than those of the snapshot.
    """
    provenance = json.loads((snapshot / PROVENANCE).read_text())
    analysis = Analysis(grading=GradingSettings(**provenance["grading"]), min_vertebrae=choices.min_vertebrae)
    tables = read_tables(snapshot)
    counted = gather_cases(tables, analysis)
    cases, people = counted.cases, counted.cases.people
    everybody = prevalence_of(counted, analysis)
    open_ = not choices.hide_small

    def ask(*by: StratumName) -> Prevalence:
        """Prevalence by strata, without small cells where they are to be hidden."""
        answer = prevalence_of(counted, replace(analysis, by=by), tables.levels_in_view)
        return answer if open_ else hide_small(answer)

    corrected = None
    if noise is not None and open_:
        (corrected,) = corrected_groups(tables, analysis, noise, str(provenance.get("model_digest")))
    found = quality(tables.studies, tables.vertebrae), shapes(tables.vertebrae, people, analysis.grading)
    return Contents(
        snapshot=snapshot.name,
        provenance=provenance,
        choices=choices,
        analysis=analysis,
        index_rule=RULE_SENTENCES[analysis.index_rule],
        participants=participants(tables, everybody),
        everybody=everybody if open_ else hide_small(everybody),
        by_age_and_sex=ask("sex", "age_band"),
        by_sex=ask("sex") if open_ else None,
        by_age=ask("age_band") if open_ else None,
        standardised=standardised_shares(counted, analysis, by_sex=open_),
        by_level=ask("level"),
        spread=spread_by_level(cases),
        shapes=found[1] if open_ else hide_shapes(found[1]),
        definitions=compare_definitions(tables, analysis) if open_ else (),
        apparent=apparent_curve(cases, analysis) if open_ else (),
        corrected=corrected,
        quality=found[0] if open_ else hide_quality(found[0]),
        gallery=choose(people, choices.gallery, choices.seed) if open_ and choices.gallery else None,
    )


def read_tables(snapshot: Place) -> Tables:
    """The columns that a report needs, of all four tables."""
    more = ("reason", "device", *GALLERY_COLUMNS, *SECONDS_COLUMNS)
    columns = dict.fromkeys((*STUDY_COLUMNS, *more))
    return Tables(
        read_table(snapshot / "patients.parquet", columns=PATIENT_COLUMNS),
        read_table(snapshot / "studies.parquet", columns=list(columns)),
        read_table(snapshot / "vertebrae.parquet", columns=VERTEBRA_COLUMNS),
        read_table(snapshot / "levels_in_view.parquet", columns=LEVEL_COLUMNS),
    )


def standardised_shares(counted: Gathered, analysis: Analysis, by_sex: bool) -> tuple[StandardisedShare, ...]:
    """Everybody, and each sex where asked for, by every standard population that is built in."""
    shares = []
    for name, standard in STANDARDS.items():
        asked = replace(analysis, standard=standard, by=("sex",) if by_sex else ())
        try:
            answer = prevalence_of(counted, asked)
        except EmptyBand:
            continue
        bands = answer.standard
        assert bands is not None
        ages = f"{bands.names[0].split('-')[0].rstrip('+')} to {bands.names[-1].split('-')[-1]}"
        shares += [
            StandardisedShare(name, ages, bands.share_of_standard, group, answer.flow.outside_standard)
            for group in answer.patients
            if "moderate" in group.standardised
        ]
    return tuple(shares)
