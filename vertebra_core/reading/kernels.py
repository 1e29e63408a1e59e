"""How sharp a reconstruction kernel is, from its name: the vendors' families, and where each of them turns sharp.

Sources: vendors' DICOM conformance statements and manuals; Siemens' numbers grow with sharpness in every family
(about 4 % of resolution a step); hard against soft pairs of four vendors as in the harmonisation of the National Lung
Screening Trial (B50f/B30f, BONE or LUNG/STANDARD, D/C, FC51/FC10).
"""

import re

SHARPNESS = ("soft", "medium", "sharp")
"""Names of the degrees 0, 1 and 2."""
UNKNOWN_SHARPNESS = 1
"""What a kernel of no known family is taken for: neither better nor worse than one in the middle."""

WORDS = (
    (2, ("BONE", "LUNG", "EDGE", "SHARP", "ULTRA", "HIRES", "HIGH RES")),
    (1, ("DETAIL", "CHST", "CHEST", "MEDIUM")),
    (0, ("SOFT", "STANDARD", "STND", "STD", "SMOOTH", "BODY", "BRAIN", "ROUTINE", "NORMAL", "CARDIAC")),
)
"""GE (SOFT, STANDARD, DETAIL, CHST, LUNG, BONE, BONEPLUS, EDGE, ULTRA), UIH (B_SOFT_B, B_SHARP_C), Canon's deep
learning (BODY, BODY SHARP, LUNG), Hitachi and others; the sharper word decides ("BODY SHARP")."""

SIEMENS = re.compile(r"(?P<family>[BHCDIJUQST]|AB|AH|[BHQUTISCJ][RFLVCPSDAUE])_?(?P<index>\d\d)[A-Z]{0,2}\d?")
SIEMENS_SHARP, SIEMENS_MEDIUM = 60, 45
"""One-letter families: B31 is soft, B45 to B59 medium (B50 is the lung kernel of many sites), B60 and above sharp."""
SIEMENS_NEW_SHARP, SIEMENS_NEW_MEDIUM = 57, 48
"""Two-letter families: Br40 is the body standard, Bl57 and Br59 read lung and bone."""
SIEMENS_TOPOGRAM = "T"

CANON = re.compile(r"FC(?P<index>\d\d)")
CANON_SHARP = {*range(30, 40), *range(50, 60), *range(80, 90)}
"""FC30 to FC35 bone, FC50 to FC59 lung, FC80 to FC86 high resolution."""
CANON_MEDIUM = {*range(40, 50), *range(60, 80)}

PHILIPS = {"A": 0, "B": 0, "C": 1, "D": 2, "E": 2, "EB": 2, "EC": 2, "F": 2, "L": 2, "W": 2}
"""One letter, from smooth to sharp; L reads the lung."""
PHILIPS_PAIR = re.compile(r"(?P<family>[UXCY])(?P<letter>[A-E])")
"""U: brain, X and C: heart, Y: lung; the second letter is the sharpness."""


def sharpness(kernel: str | None) -> int | None:
    """Sharpness of a reconstruction kernel: 0 soft, 1 medium, 2 sharp, None where its family is not known.

    Parameters
    ----------
    kernel : str or None
        Values of ConvolutionKernel, several of them separated by "/"; the first that is known decides.

    Examples
    --------
    >>> [sharpness(k) for k in ("STANDARD", "B70f", "Br40d/3", "LUNG", "FC52", "D", "IMR2", None)]
    [0, 2, 0, 2, 2, 2, None, None]
    """
    for value in (kernel or "").upper().replace("\\", "/").split("/"):
        known = _sharpness_of_one(value.strip())
        if known is not None:
            return known
    return None


def _sharpness_of_one(name: str) -> int | None:
    if canon := CANON.match(name):
        index = int(canon["index"])
        return 2 if index in CANON_SHARP else 1 if index in CANON_MEDIUM else 0
    if siemens := SIEMENS.match(name):
        return _siemens(siemens["family"], int(siemens["index"]))
    for level, words in WORDS:
        if any(word in name for word in words):
            return level
    if pair := PHILIPS_PAIR.fullmatch(name):
        return 2 if pair["family"] == "Y" else min("ABCDE".index(pair["letter"]), 3) * 2 // 3
    return PHILIPS.get(name)


def _siemens(family: str, index: int) -> int | None:
    if family.startswith(SIEMENS_TOPOGRAM):
        return None  # of localizers
    sharp, medium = (SIEMENS_SHARP, SIEMENS_MEDIUM) if len(family) == 1 else (SIEMENS_NEW_SHARP, SIEMENS_NEW_MEDIUM)
    return 2 if index >= sharp or family.startswith("U") else 1 if index >= medium else 0
