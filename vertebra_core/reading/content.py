"""What a CT series shows: plain images, or something made of them, told from its attributes and its description.

SeriesDescription is free text and may hold a name. It is read here, while a header is read, and only the class that
it gives is kept. A description alone never refuses images that ImageType calls original, but for phrases that can
mean nothing else; it puts them last.
"""

import re
from enum import Enum
from functools import lru_cache


class Content(Enum):
    """What the images of a series are: ``code`` is kept, ``order`` ranks what may be measured, the plain first.

    ``order`` is None for what is never measured.
    """

    PLAIN = "plain", 0
    REFORMAT = "reformat", 0
    AVERAGE = "average", 1
    PHASE = "phase", 1
    ONE_ENERGY = "one_energy", 1
    VIRTUAL = "virtual", 2
    TIME_SERIES = "time_series", 3
    DOUBTFUL = "doubtful", 3
    LOCALIZER = "localizer", 3
    REPORT_PAGE = "report_page", 3
    PROJECTION = "projection", None
    DERIVED_MAP = "derived_map", None
    CURVED = "curved", None

    def __init__(self, code: str, order: int | None) -> None:
        self.code = code
        self.order = order


_BY_CODE = {content.code: content for content in Content}


def content_named(code: str) -> Content:
    """The class of a code."""
    return _BY_CODE[code]


ALIKE_120_KVP_KEV = range(60, 81)
"""Virtual monoenergetic images of these energies look like a plain scan of 100 to 140 kV (70 keV stands for 120 kV);
scanners that count photons send nothing else."""

DERIVATIONS = {
    "113072": Content.REFORMAT,
    "113049": Content.AVERAGE,
    "113073": Content.CURVED,
    "113077": Content.PROJECTION,
    "113078": Content.PROJECTION,
    "113045": Content.PROJECTION,
    "113051": Content.PROJECTION,
    "113062": Content.DERIVED_MAP,
    "113076": Content.DERIVED_MAP,
    "113098": Content.DERIVED_MAP,
}
"""DerivationCodeSequence by CID 7203: reformatting, mean, curved, projections, subtraction, segmentation, perfusion."""

TECHNIQUES = {
    "MAX_IP": Content.PROJECTION,
    "MIN_IP": Content.PROJECTION,
    "VOLUME_RENDER": Content.REPORT_PAGE,
    "SURFACE_RENDER": Content.REPORT_PAGE,
    "MPR": Content.REFORMAT,
    "CURVED_MPR": Content.CURVED,
}
"""VolumeBasedCalculationTechnique (PS3.3 C.8.16.2.1.3)."""

TYPE_WORDS = (
    (Content.LOCALIZER, {"LOCALIZER", "SCOUT", "TOPOGRAM", "SURVIEW", "REF_SURVIEW", "SCANOGRAM", "TOP"}),
    (
        Content.REPORT_PAGE,
        {"SCREEN", "SAVE", "DOSE_INFO", "PATIENT_INFO", "RESULTS", "DOSE", "SCREEN_CAPTURE", "SUMMARY", "PROTOCOL"}
        | {"PROT", "VRT", "SSD", "VOLREN"},
    ),
    (Content.PROJECTION, {"MIP", "MINIP", "MAXIMUM", "MINIMUM", "MAX_IP", "MIN_IP", "MAXIP", "MIPTHICK"}),
    (
        Content.DERIVED_MAP,
        {"SUBTRACTION", "SUBTRACT", "PERFUSION", "CBF", "CBV", "MTT", "TTP", "TMAX", "QUANTITY", "DIVISION", "MASK"}
        | {"IODINE", "IODINE_NO_WATER", "Z_EFFECTIVE", "ZEFF", "ELECTRON_DENSITY", "URIC_ACID", "CALSUPP", "PBV"},
    ),
    (Content.CURVED, {"CURVED", "CPR", "CURVED_MPR"}),
    (Content.VIRTUAL, {"VNC", "VIRTUAL", "VUE", "VIRTUAL_NON_CONTRAST"}),
    (Content.AVERAGE, {"MEAN", "AVG", "AIP", "AVE-IP"}),
    (Content.REFORMAT, {"REFORMATTED", "MPR", "RESAMPLED", "AVERAGE"}),
)
"""Words in the values of ImageType, the defined terms of PS3.3 (C.8.2.1.1.1, C.8.15.2.1.1) and vendors' own ("CT_SOM5
MIP"). GE's REFORMATTED\\AVERAGE is a plain reformat, its thickness in SliceThickness."""

ENERGY = re.compile(r"(\d{2,3}) ?kev")
PHRASES: tuple[tuple[Content, bool, str], ...] = (
    (Content.DERIVED_MAP, True, r"calcium suppression|calsupp|bone.?(removal|removed|subtract\w*)|no.?bone|bone.?less"),
    (Content.DERIVED_MAP, True, r"iodine ?(map|density|overlay|no ?water|\(|\[)|water ?\(|\((iodine|water|hap)\)"),
    (Content.DERIVED_MAP, True, r"z.?eff\w*|effective (z|atomic)|electron density|uric acid|fat map|\[mg/ml\*?\]"),
    (Content.DERIVED_MAP, True, r"lung ?pbv|\bpbv\b|(^|\W)(cbf|cbv|mtt|ttp|tmax)(\W|$)|perfused blood|parametric"),
    (Content.DERIVED_MAP, False, r"subtract\w*|\bsubtr?\b|perfusion map"),
    (Content.PROJECTION, False, r"(?<!for )(?<!source )(?<!no )\b(\w*mips?|m(ax|in)[ -]?ips?|mip(thin|thick))\b"),
    (Content.PROJECTION, False, r"m(ax|in)imum intensity"),
    (Content.CURVED, False, r"\bcurved\b|\bcpr\b"),
    (Content.REPORT_PAGE, False, r"dose (report|info|record|page|summary)|patient protocol|exam (summary|protocol)"),
    (Content.REPORT_PAGE, False, r"screen ?(save|shot|capture)|\bvrt?\b|\bssd\b|volume render\w*|\b3d (image|vr|ssd)"),
    (Content.LOCALIZER, False, r"\b(scouts?|topogram|\w*topo|sur+v+iew|locali[sz]er|scanogram|scano|pilot)\b"),
    (Content.TIME_SERIES, False, r"smart ?prep|(pre)?monitoring|(test|timing|care) ?bolus|bolus ?track\w*|sure ?start"),
    (Content.TIME_SERIES, False, r"\btiming\b|\blocator\b|\btracker\b|perfusion|\bvpct\b|\bctp\b|\bcine\b"),
    (Content.VIRTUAL, False, r"\bvnc\b|\bvue\b|virtual (non|native|unenh)|virt\w* ?nat|\btnc\b"),
    (Content.VIRTUAL, False, r"\d{2,3} ?kev|\bmono ?e\b|\bmono\+?\b|monoenerg\w*|monochrom\w*"),
    (Content.ONE_ENERGY, False, r"\b[ab][ _](sn)?\d{2,3}(sn)? ?kv|\bsn\d{3} ?kv"),
    (Content.AVERAGE, False, r"\bave?[ -]?ip|\baip\b"),
    (Content.PHASE, False, r"\bgated\b|\b4d\b|best ?(dias|sys)|\bt ?= ?\d+ ?%|\d+ ?% ?(ex|in|insp|exp)\b"),
    (Content.PHASE, False, r"\b[bihdq][a-z]?\d\d[a-z]? +(\d +)?\d+ ?%|phase \d+ ?%"),
    (Content.REFORMAT, False, r"\b(cor|coro|coron\w*|sag|sagg?it\w*|mprs?|reformat\w*|rfmt|obl|oblique)\b"),
    (Content.AVERAGE, False, r"\b(avg|average|mean)\b"),
)
"""What a description says, in order of weight: the class, whether the phrase can mean nothing else, and the phrase."""
_COMPILED = tuple((content, certain, re.compile(phrase)) for content, certain, phrase in PHRASES)


@lru_cache(maxsize=4096)  # all slices of a series ask the same
def content_of(
    image_type: tuple[str, ...], description: str = "", derivations: tuple[str, ...] = (), technique: str = ""
) -> Content:
    """Classify a series.

    Parameters
    ----------
    image_type : tuple of str
        Values of ImageType (of FrameType in multi-frame files).
    description : str
        SeriesDescription; not kept.
    derivations : tuple of str
        Code values of DerivationCodeSequence.
    technique : str
        VolumeBasedCalculationTechnique.

    Examples
    --------
    >>> content_of(("DERIVED", "SECONDARY", "AXIAL", "CT_SOM5 MIP")).code
    'projection'
    >>> content_of(("DERIVED", "SECONDARY"), "MIP 10 x 5 mm").code, content_of(("ORIGINAL", "PRIMARY"), "MIP").code
    ('projection', 'doubtful')
    """
    stated = [TECHNIQUES.get(technique.upper()), *map(DERIVATIONS.get, derivations), of_image_type(image_type)]
    for content in stated:
        if content is not None and content is not Content.REFORMAT:
            return content
    said, certain = of_description(description)
    if said is Content.PLAIN and Content.REFORMAT in stated:
        return Content.REFORMAT
    original = tuple(value.upper() for value in image_type[:2]) == ("ORIGINAL", "PRIMARY")
    if said.order is None and original and not certain:
        return Content.DOUBTFUL
    return said


@lru_cache(maxsize=4096)
def of_image_type(image_type: tuple[str, ...]) -> Content | None:
    """What the values of ImageType after the first two say, None where nothing but that it is a CT image."""
    words = {word for value in image_type[2:] for word in re.split(r"[\s_/]+", value.upper())}
    words |= {value.upper() for value in image_type[2:]}
    if any(value.upper().startswith("MONO") for value in image_type[3:]):
        return None  # the energy stands in the description
    return next((content for content, terms in TYPE_WORDS if not terms.isdisjoint(words)), None)


def of_description(description: str) -> tuple[Content, bool]:
    """What a description says, and whether it can mean nothing else.

    Examples
    --------
    >>> [of_description(text)[0].code for text in ("COR MIP", "MonoE 40keV[HU]", "Thorax 1.0 B31f", "T=30%", "Topo")]
    ['projection', 'virtual', 'plain', 'phase', 'localizer']
    """
    words = re.sub(r"[_,;]+", " ", description.lower())
    energy = ENERGY.search(words)
    like_plain = energy is not None and int(energy[1]) in ALIKE_120_KVP_KEV
    for content, certain, phrase in _COMPILED:
        if phrase.search(words) and not (content is Content.VIRTUAL and like_plain):
            return content, certain
    return Content.PLAIN, True
