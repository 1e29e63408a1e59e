"""How the rules of series selection class the CT series of a public index: counts, and a random hundred to read.

    python -m benchmarks.series_rules INDEX.parquet [--sample 100] [--seed 0]

INDEX.parquet is `idc_index.parquet` of the package idc-index-data (Imaging Data Commons; its metadata are public). The
index has descriptions and manufacturers; kernels and image types are taken from the descriptions that hold them: those
of the National Lung Screening Trial ("1,OPA,SE,VZOOM,B50f,...": ImageType by initials and the kernel), Siemens'
("Thorax  1.0  B70f") and Philips' ("SliceTh-3_SliceInc-1.5_ReconFilter-C").
"""

import argparse
import random
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from vertebra_core.reading.content import content_of, of_image_type
from vertebra_core.reading.kernels import SHARPNESS, sharpness

TRIAL = re.compile(r"\d,(?P<type>[OD][PS][ALRO]),(?P<vendor>\w\w),(?P<scanner>[^,]*),(?P<kernel>[^,]*),")
"""Descriptions of the National Lung Screening Trial: visit, ImageType, vendor, scanner, kernel, ..."""
INITIALS = (
    {"O": "ORIGINAL", "D": "DERIVED"},
    {"P": "PRIMARY", "S": "SECONDARY"},
    {"A": "AXIAL", "L": "LOCALIZER", "R": "REFORMATTED", "O": "OTHER"},
)
KERNEL_IN_TEXT = (
    re.compile(r"ReconFilter-(?P<kernel>\w+)"),
    re.compile(r"(?:^|[\s_])(?P<kernel>(?:[BHCDIJUQST]|[BHQUTI][rflvcpsd])\d\d[a-z]?)(?=\W|_|$)"),
    re.compile(r"(?:^|[\s_,])(?P<kernel>F[CL]\d\d)(?=\W|_|$)"),
    re.compile(r"(?<![A-Z])(?P<kernel>STANDARD|STND|SOFT|DETAIL|CHST|LUNG|BONEPLUS|BONE|EDGE|ULTRA|IMR\d?)(?![A-Z])"),
)


def image_type_of(description: str) -> tuple[str, ...]:
    """ImageType where the description tells it, () elsewhere.

    Examples
    --------
    >>> image_type_of("2,OPL,GE,LSPLUS,STANDARD,null,na,120,0,0,na")
    ('ORIGINAL', 'PRIMARY', 'LOCALIZER')
    """
    found = TRIAL.match(description)
    if not found:
        return ()
    return tuple(names[letter] for names, letter in zip(INITIALS, found["type"], strict=True))


def kernel_of(description: str) -> str | None:
    """The kernel that a description names, None where it names none.

    Examples
    --------
    >>> kernel_of("Thorax  1.0  B70f"), kernel_of("1,OPA,TO,AQUL4,FC51,400,2,120"), kernel_of("Chest")
    ('B70f', 'FC51', None)
    """
    if found := TRIAL.match(description):
        return found["kernel"]
    return next((found["kernel"] for pattern in KERNEL_IN_TEXT if (found := pattern.search(description))), None)


def read_descriptions(index: Path) -> Counter[str]:
    """Number of CT series by description, "" where there is none."""
    table = pq.read_table(index, columns=["Modality", "SeriesDescription"])
    ct = table.filter(pc.field("Modality") == "CT")["SeriesDescription"]
    return Counter(text or "" for text in ct.to_pylist())


def class_of(description: str) -> str:
    """Class that our rules give a series of this description."""
    image_type = image_type_of(description)
    stated = of_image_type(image_type)
    text = "" if image_type else description  # the trial's codes are no prose
    return (stated or content_of(image_type, text)).code


def sharpness_name(kernel: str) -> str:
    """Name of a kernel's sharpness."""
    degree = sharpness(kernel)
    return "unknown" if degree is None else SHARPNESS[degree]


def print_counts(title: str, classed: Iterable[tuple[str, str, int]]) -> None:
    """Print, for each class, its series, its distinct values and the commonest of them."""
    rows = list(classed)
    total = sum(count for _, _, count in rows)
    print(f"\n{title}: {total} series, {len({value for _, value, _ in rows})} distinct values")
    for name in sorted({name for name, _, _ in rows}):
        members: Counter[str] = Counter()
        for kind, value, count in rows:
            members[value] += count * (kind == name)
        members = +members  # without the zeros
        series = sum(members.values())
        common = ", ".join(f"{value!r} {count}" for value, count in members.most_common(6))
        print(f"  {name:12} {series:7d} series ({series / total:6.1%})  {len(members):6d} values: {common}")


def sample(descriptions: Counter[str], size: int, seed: int) -> list[str]:
    """Distinct descriptions drawn at random, each as likely as it has series; the trial's coded ones left out."""
    drawn = random.Random(seed)
    prose = {text: count for text, count in descriptions.items() if text and not TRIAL.match(text)}
    chosen: dict[str, None] = {}
    while len(chosen) < min(size, len(prose)):
        chosen[drawn.choices(list(prose), weights=list(prose.values()))[0]] = None
    return list(chosen)


def main() -> None:
    """Count, and draw the hundred."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index", type=Path)
    parser.add_argument("--sample", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    descriptions = read_descriptions(arguments.index)
    print_counts("descriptions", ((class_of(text), text, count) for text, count in descriptions.items()))
    types = ((image_type_of(text), count) for text, count in descriptions.items())
    known = [("\\".join(values), of_image_type(values), count) for values, count in types if values]
    print_counts("image types", ((kind.code if kind else "plain", name, count) for name, kind, count in known))
    volumes = ((kernel_of(text), count) for text, count in descriptions.items() if class_of(text) != "localizer")
    kernels = ((sharpness_name(name), name, count) for name, count in volumes if name is not None)
    print_counts("kernels, localizers left out", kernels)
    print(f"\n{arguments.sample} descriptions at random (seed {arguments.seed})")
    for text in sorted(sample(descriptions, arguments.sample, arguments.seed), key=class_of):
        kernel = kernel_of(text)
        print(f"  {class_of(text):12} {sharpness_name(kernel) if kernel else '-':8} {text}")


if __name__ == "__main__":
    main()
