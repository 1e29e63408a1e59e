"""Colours of the study pictures and figures: one per grade, told apart with every kind of colour vision."""

GRADE_COLOURS = {
    "normal": "#45AEF5",
    "mild": "#FAF07A",
    "moderate": "#E67E14",
    "severe": "#E8237C",
}
"""Sky blue, yellow, orange, pink-red: apart in hue and lightness, and on grey bone. Checked in the tests under
simulated deuteranopia, protanopia and tritanopia (Machado, Oliveira, Fernandes, IEEE TVCG 2009;15:1291)."""

UNMEASURED_COLOUR = "#B4B9C0"
"""A vertebra cut by the edge of the scan, or one without three heights: grey, dashed, no grade."""

PAPER = "#0B0D10"
"""Background of the pictures: nearly black, as in a reading room, and darker than any tissue in the window."""

OUTSIDE = "#171B22"
"""Where there is no scan: dark blue-grey, not black like air."""

INK = "#E8EAED"
"""Text and scale bars on `PAPER`."""

FAINT = "#8B929B"
"""Second-rank text on `PAPER`."""

CURVE_COLOUR = "#B9F2C8"
"""The centre line of the spine: pale green, a colour no grade has."""
