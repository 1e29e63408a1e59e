"""A short run of the fuzzer, with seeds that do not change; the long one is `make fuzz` (docs/fuzzing.md)."""

import pytest
from fuzz_bases import SERIES, VOLUMES, base
from fuzz_elements import parse, write
from fuzz_mutations import mutate
from fuzz_run import mutated, numbered, run, run_product, summary
from pydicom import dcmread
from pydicom.filebase import DicomBytesIO

N_SERIES, N_VOLUMES, N_STUDIES = 70, 200, 20


@pytest.mark.parametrize("name", SERIES)
def test_the_codec_of_the_fuzzer_gives_back_what_it_took_apart(name):
    for content in base(name).files.values():
        file = parse(content)
        assert parse(write(file)) == file
        if not file.deflated:
            assert write(file) == content


@pytest.mark.parametrize("name", SERIES)
def test_a_base_of_another_patient_is_a_sound_file(name):
    content = next(iter(base(name).files.values()))
    assert dcmread(DicomBytesIO(numbered(content, 17))).StudyInstanceUID == "1.2.826.0.1.3680043.10.2.17"


def test_the_same_seed_gives_the_same_mutation():
    for kind in ("dicom", "volume"):
        for number in range(20):
            assert mutated(kind, number)[1] == mutated(kind, number)[1]
    assert len({mutate(base("explicit"), seed).story for seed in range(50)}) > 40
    assert len(VOLUMES) == 8


@pytest.mark.parametrize(("kind", "count"), [("dicom", N_SERIES), ("volume", N_VOLUMES)])
def test_whatever_is_done_to_files_the_reader_gives_the_truth_or_a_reason(kind, count):
    endings = list(run(kind, range(count)))
    assert [ending for ending in endings if ending.complaints] == []
    figures = summary(endings)
    assert figures["gave a volume"] > count // 6, "mutations that spoil everything prove little"
    assert figures["refused or left alone"] > count // 6


def test_every_mutated_study_ends_as_a_row(tmp_path):
    assert run_product(tmp_path, range(N_STUDIES)) == []
