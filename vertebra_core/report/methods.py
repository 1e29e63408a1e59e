"""What a report says of itself: method in words with versions and digests, limits, citation, commands."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vertebra_core.epidemiology.analysis import MIN_VERTEBRAE
from vertebra_core.report.contents import Contents
from vertebra_core.report.gallery import GALLERY

NOT_RECORDED = "not recorded"

PAPER = (
    "Pisov M, Kondratenko V, Zakharov A, Petraikin A, Gombolevskiy V, Morozov S, Belyaev M. Keypoints Localization for "
    "Joint Vertebra Detection and Fracture Severity Quantification. In: MICCAI 2020, LNCS 12266, pp. 723-732."
)
PAPER_DOI = "10.1007/978-3-030-59725-2_70"

LIMITS = (
    ("Thick slices.", "A sharp scan keeps its heights in slices of 2.5 and 3.3 mm and loses 0.3 to 0.7 mm at 5 mm."),
    ("Mild deformities:", "8 of 14 at G <= 0.80 on patients left out, and 16 of 143 others read as such."),
    (
        "Levels:",
        "no name without the neck or the sacrum in some scans; eleven or thirteen thoracic vertebrae are misnamed.",
    ),
    ("Flowing ossification (DISH):", "G off by 0.05 on the patient with much of it, left out."),
    ("Seen on phantoms only:", "screws, cement, metastases. Never seen: children."),
)
"""Sentences of docs/model_card.md, "What they are bad at"; a test holds that they stand there."""

INTERPRETATION = (
    ("Not every deformity is an osteoporotic fracture.", "Scheuermann's disease, old trauma, metastases and congenital "
     "wedges look the same to a ruler, and a vertebra that lost all heights alike has a normal G."),
    ("Who is scanned is ill.", "An archive of CT is no sample of a population. Standardisation takes age out of a "
     "comparison, not the reason for the scan."),
    ("Few vertebrae in view find few fractures.", "Scans of the chest and of the abdomen show different levels of "
     "different patients; the denominators are the vertebrae that were measured."),
    ("Not a medical device.", "These numbers are about populations. No decision about a patient may rest on them."),
)  # fmt: skip


@dataclass(frozen=True)
class Command:
    """Which command prints a number again."""

    what: str
    line: str


@dataclass(frozen=True)
class Method:
    """The method as it was in force.

    Parameters
    ----------
    software, model, settings, schema, published, run : str
    grid_mm, pixel_mm, min_score, edge_mm, max_spacing_mm, min_confidence : str
        Of the settings, as text.
    libraries, sections : tuple
        Versions of the libraries; all settings by section.
    dates, pooled : str
        What is told of patients.
    commands : tuple of Command
    """

    software: str
    model: str
    settings: str
    schema: str
    published: str
    run: str
    grid_mm: str
    pixel_mm: str
    min_score: str
    edge_mm: str
    max_spacing_mm: str
    min_confidence: str
    libraries: tuple[tuple[str, str], ...]
    sections: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    dates: str
    pooled: str
    commands: tuple[Command, ...]


def method_of(contents: Contents) -> Method:
    """The method of a snapshot, from its provenance; what an old snapshot does not say is "not recorded"."""
    one, settings = contents.provenance, contents.provenance.get("settings", {})

    def said(*names: str) -> str:
        """A value by its path in the provenance."""
        value: Any = one
        for name in names:
            value = value.get(name) if isinstance(value, Mapping) else None
        return NOT_RECORDED if value is None else str(value)

    told = [settings, {name: one[name] for name in ("grading", "privacy") if name in one}]
    return Method(
        software=said("software_version"),
        model=said("model_digest"),
        settings=said("settings_digest"),
        schema=said("schema_version"),
        published=said("published"),
        run=said("run"),
        grid_mm=said("settings", "curve", "grid_mm"),
        pixel_mm=said("settings", "straighten", "pixel_mm"),
        min_score=said("settings", "keypoints", "min_score"),
        edge_mm=said("settings", "keypoints", "edge_mm"),
        max_spacing_mm=said("settings", "reading", "max_slice_spacing_mm"),
        min_confidence=said("settings", "levels", "min_confidence"),
        libraries=tuple((name, str(version)) for name, version in one.get("versions", {}).items()),
        sections=tuple(
            (name, tuple((key, _plain(value)) for key, value in section.items()))
            for part in told
            for name, section in part.items()
        ),
        dates=said("privacy", "dates"),
        pooled=said("privacy", "pool_old_ages"),
        commands=commands_of(contents),
    )


def commands_of(contents: Contents) -> tuple[Command, ...]:
    """The commands that print the numbers of this report again."""
    asked = contents.choices
    count, more = f"vertebra prevalence COHORT/snapshots/{contents.snapshot}", _fewest(contents)
    more += " --hide-small" if asked.hide_small else ""
    commands = [
        Command("Headline, flow of patients", count + more),
        Command("By age and sex", f"{count} --by sex,age_band{more}"),
        Command("By level, coverage", f"{count} --by level{more}"),
    ]
    by = "" if asked.hide_small else " --by sex"
    standards = dict.fromkeys(one.standard for one in contents.standardised)
    commands += [Command(f"Standardised, {name}", f"{count} --standard {name}{by}{more}") for name in standards]
    if contents.definitions:
        commands.append(Command("Definitions compared", f"{count} --compare-definitions{more}"))
    if contents.corrected is not None:
        commands.append(Command("Curves without noise", f"{count} --noise{more} --json"))
    explain = f"vertebra explain COHORT/snapshots/{contents.snapshot} --by level --stratum T12{_fewest(contents)}"
    commands.append(Command("Which studies stand behind a number, for example T12", explain))
    commands.append(Command("Where the tables are: shapes, spread of G, quality", "vertebra tables COHORT"))
    commands.append(Command("This report", report_command(contents)))
    return tuple(commands)


def report_command(contents: Contents) -> str:
    """The command that writes this report again."""
    asked = contents.choices
    words = [f"vertebra report COHORT --snapshot {contents.snapshot}{_fewest(contents)}"]
    words += [] if asked.gallery == GALLERY else [f"--gallery {asked.gallery}"]
    words += [] if asked.pictures else ["--no-pictures"]
    words += ["--hide-small"] if asked.hide_small else []
    words += ["--noise"] if contents.corrected is not None else []
    return " ".join(words)


def _fewest(contents: Contents) -> str:
    """The option for the smallest number of vertebrae, where it is not the default."""
    least = contents.choices.min_vertebrae
    return "" if least == MIN_VERTEBRAE else f" --min-vertebrae {least}"


def bibtex(method: Method) -> str:
    """Paper and program for a list of references."""
    year = method.published[:4] if method.published != NOT_RECORDED else ""
    return f"""@inproceedings{{pisov2020keypoints,
  title     = {{Keypoints Localization for Joint Vertebra Detection and Fracture Severity Quantification}},
  author    = {{Pisov, Maxim and Kondratenko, Vladimir and Zakharov, Alexey and Petraikin, Alexey and
               Gombolevskiy, Victor and Morozov, Sergey and Belyaev, Mikhail}},
  booktitle = {{Medical Image Computing and Computer Assisted Intervention (MICCAI)}},
  series    = {{LNCS}}, volume = {{12266}}, pages = {{723--732}}, year = {{2020}},
  doi       = {{{PAPER_DOI}}}
}}
@software{{vertebra,
  title   = {{Vertebra: screens CT archives for vertebral fractures}},
  version = {{{method.software}}}, year = {{{year}}},
  note    = {{weights {method.model}, settings {method.settings}}}
}}"""


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
