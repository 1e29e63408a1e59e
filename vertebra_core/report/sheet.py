"""Contact sheets: thumbnails of all studies of one grade or one reason, so that many can be looked at in a minute."""

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from vertebra_core.cohort.layout import Layout
from vertebra_core.errors import Reason, WrongUse
from vertebra_core.report.gallery import thumbnails
from vertebra_core.report.page import templates
from vertebra_core.tables.columns import GRADES

PER_PAGE = 60
"""Studies of a page: some 2.4 MB, and as many as are looked at in one go."""
THUMBNAIL_PX = 400
"""Width of a thumbnail: the bend of a spine and the colours of the grades can be seen, in about 40 kB."""
SHEET_COLUMNS = ("study_key", "status", "reason", "reason_detail", "min_g", "min_g_level", "worst_grade", "n_vertebrae")


@dataclass(frozen=True)
class Sheet:
    """One page.

    Parameters
    ----------
    html : str
    number, of : int
        Which page, from 1.
    studies, with_picture : int
        On this page.
    """

    html: str
    number: int
    of: int
    studies: int
    with_picture: int


def studies_of(studies: pa.Table, group: str) -> pa.Table:
    """The studies of a worst grade, those with the lowest G first; or of a reason, by key.

    Parameters
    ----------
    studies : pa.Table
        Columns `SHEET_COLUMNS`.
    group : str
        A grade (severe) or the code of a reason (no_spine).

    Raises
    ------
    WrongUse
        Neither, or no study is of it; says which there are.
    """
    if group in GRADES:
        chosen = studies.filter(pc.field("worst_grade") == group)
    else:
        chosen = studies.filter(pc.field("reason") == group)
    if not chosen.num_rows:
        known = {value for name in ("worst_grade", "reason") for value in studies[name].unique().to_pylist() if value}
        raise WrongUse(f"no study is {group} (there are: {', '.join(sorted(known)) or 'none'})")
    return chosen.sort_by([("min_g", "ascending", "at_end"), ("study_key", "ascending")])


def contact_sheets(layout: Layout, snapshot: str, chosen: pa.Table, group: str, per_page: int) -> Iterator[Sheet]:
    """Pages of thumbnails with keys; of studies that were not measured there are no pictures, and the page says so.

    Parameters
    ----------
    layout : Layout
    snapshot : str
        Its name, printed on the page.
    chosen : pa.Table
        From `studies_of`.
    group : str
    per_page : int
    """
    pages = -(-chosen.num_rows // per_page)
    sentences = {reason.code: reason.sentence for reason in Reason}
    for number in range(pages):
        rows = chosen.slice(number * per_page, per_page).to_pylist()
        pictures = thumbnails(layout, [row["study_key"] for row in rows], THUMBNAIL_PX)
        html = templates().get_template("sheet.html").render(
            rows=rows,
            pictures=pictures,
            group=group,
            sentence=sentences.get(group, ""),
            snapshot=snapshot,
            first=number * per_page + 1,
            total=chosen.num_rows,
            number=number + 1,
            pages=pages,
        )  # fmt: skip
        yield Sheet(html, number + 1, pages, len(rows), len(pictures))
