"""The page: contents, figures and templates become one HTML document that needs nothing else."""

from collections.abc import Mapping

from jinja2 import Environment, PackageLoader, StrictUndefined

from vertebra_core.report import figures, quality_figures, words
from vertebra_core.report.contents import Contents
from vertebra_core.report.drawing import WIDTH, Figure
from vertebra_core.report.methods import INTERPRETATION, LIMITS, PAPER, PAPER_DOI, bibtex, method_of
from vertebra_core.report.quality import DRIFT_G, FEWEST_STUDIES_A_YEAR


def render_report(contents: Contents, pictures: Mapping[str, str]) -> str:
    """The report as HTML; equal contents and pictures give equal text.

    Parameters
    ----------
    contents : Contents
    pictures : mapping
        Study key -> picture as a data URI (`vertebra_core.report.gallery.pictures_of`).
    """
    method = method_of(contents)
    return templates().get_template("report.html").render(
        c=contents,
        method=method,
        drawn=figures_of(contents),
        pictures=pictures,
        limits=LIMITS,
        interpretation=INTERPRETATION,
        paper=PAPER,
        paper_doi=PAPER_DOI,
        bibtex=bibtex(method),
        drift_g=DRIFT_G,
        fewest_studies=FEWEST_STUDIES_A_YEAR,
    )  # fmt: skip


def templates() -> Environment:
    """The templates; whatever they print is escaped, and a name they do not know is an error."""
    environment = Environment(
        loader=PackageLoader("vertebra_core.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "whole": words.whole,
        "percent": words.percent,
        "interval": words.interval,
        "decimals": words.decimals,
    }
    environment.globals |= {"WIDTH": WIDTH, "NOT_CORRECTED": words.NOT_CORRECTED, "bound": words.bound}
    return environment


def figures_of(contents: Contents) -> dict[str, Figure]:
    """All figures by name; one that has nothing to show is left out."""
    drawn = {
        "studies": figures.flow_figure("flow", "From studies to patients", contents.participants.studies),
        "bones": figures.flow_figure("bones", "Vertebrae of the index studies", contents.participants.vertebrae),
        "age_sex": figures.age_and_sex_figure(contents),
        "levels": figures.levels_figure(contents),
        "spread": figures.spread_figure(contents),
        "shapes": quality_figures.shapes_figure(contents),
        "endings": quality_figures.endings_figure(contents),
    }
    if contents.standardised:
        drawn["standardised"] = figures.standardised_figure(contents)
    if contents.definitions:
        drawn["definitions"] = figures.definitions_figure(contents)
    if contents.apparent:
        drawn["curve_patients"] = figures.curve_figure(contents, "patients")
        drawn["curve_vertebrae"] = figures.curve_figure(contents, "vertebrae")
    if any(one.median_g is not None for one in contents.quality.years):
        drawn["drift"] = quality_figures.drift_figure(contents)
    return drawn
