"""``vertebra doctor``: what is in force and whether everything a run needs answers."""

import os
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from flows.printing import print_json, print_table

MOST_CLOCK_SECONDS = 60.0
"""Files and process may differ by so much: a lease on the cohort lasts three minutes (`vertebra_core.cohort.lock`)."""


def doctor(
    *,
    profile: str = "local",
    cohort: str | None = None,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Check decoders, networks, devices and storage, and print the settings in force.

    Example: vertebra doctor --cohort spines

    Parameters
    ----------
    profile
        Settings to show: a name in deployments/profiles or a .toml file.
    cohort
        Also check that this cohort, a folder or an s3:// URL, can be written, and say who holds it and how its last
        run ended.
    as_json
        Print one JSON document.
    """
    from flows.cli import COULD_NOT_RUN, DONE
    from flows.settings import load_settings

    settings = load_settings(profile)
    run, is_local = settings.run, settings.cluster.kind == "local"  # elsewhere each worker has a device of its own
    devices = [_device(run.device), _threads(run)] if is_local else []
    checks = [*_programs(), *_decoders(), _weights(), *devices, _prefect(), _clock(), *_storage(cohort)]
    checks += _night(cohort)
    sound = all(check["ok"] for check in checks)
    if as_json:
        print_json({"ok": sound, "checks": checks, "profile": profile, "settings": settings})
    else:
        rows = [[check["what"], "ok" if check["ok"] else "FAILS", check["found"]] for check in checks]
        print_table("Checks", ["what", "", "found"], rows, text=["", "found"])
        _print_settings(settings)
    return DONE if sound else COULD_NOT_RUN


def _check(what: str, ok: bool, found: str) -> dict:
    return {"what": what, "ok": ok, "found": found}


def _programs() -> list[dict]:
    from importlib import metadata

    names = ("vertebra", "torch", "numpy", "prefect", "dask", "pydicom", "SimpleITK", "pyarrow")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in names)
    return [_check("programs", sys.version_info >= (3, 11), f"Python {sys.version.split()[0]}; {versions}")]


def _decoders() -> list[dict]:
    """One line per transfer syntax of CT archives (PS3.5 section 10)."""
    from pydicom import uid
    from pydicom.pixels import get_decoder

    plain = (
        uid.ImplicitVRLittleEndian,
        uid.ExplicitVRLittleEndian,
        uid.ExplicitVRBigEndian,
        uid.DeflatedExplicitVRLittleEndian,
    )
    jpeg = uid.JPEGLossless, uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.JPEGLSNearLossless
    packed = (*jpeg, uid.JPEG2000Lossless, uid.JPEG2000, uid.RLELossless)
    checks = []
    for syntax in (*plain, *packed):
        decoder = get_decoder(syntax)
        plugins = ", ".join(decoder.available_plugins) if decoder.is_encapsulated else "pydicom"
        checks.append(_check(f"decoder {syntax.keyword}", bool(plugins), plugins or "none"))
    return checks


def _weights() -> dict:
    from vertebra_core.errors import VertebraError
    from vertebra_core.models import load_models

    try:
        return _check("networks", True, f"digest {load_models().digest}")
    except VertebraError as error:
        return _check("networks", False, str(error))


def _device(wanted: str) -> dict:
    import torch

    from tasks.method import choose_device
    from vertebra_core.errors import VertebraError

    try:
        device = choose_device(wanted)
    except VertebraError as error:
        return _check("device", False, str(error))
    name = torch.cuda.get_device_name() if device == "cuda" else f"{len(os.sched_getaffinity(0))} cores"
    return _check("device", True, f"{wanted} -> {device} ({name})")


def _threads(run) -> dict:
    """What the libraries of a sandbox use, after it was said to them here as it is there."""
    from tasks.device import limit_threads

    said = ", ".join(f"{library} {number}" for library, number in limit_threads(run.threads).items())
    return _check("threads", True, f"{run.threads} in each of {run.workers_here()} workers ({said})")


def _prefect() -> dict:
    from flows.server import configured_api, state_folder_base

    url = configured_api()
    if url is None:
        return _check("Prefect", _writable(state_folder_base()), f"private server, state in {state_folder_base()}")
    return _check("Prefect", _answers(url), f"configured: {url}")


def _answers(url: str) -> bool:
    import urllib.request

    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5):
            return True
    except OSError:
        return False


def _storage(named: str | None) -> list[dict]:
    import shutil

    from vertebra_core.storage import is_url

    if named is None:
        return []
    if is_url(named):
        return [_bucket(named)]
    cohort = Path(named)
    place = next(folder for folder in (cohort, *cohort.resolve().parents) if folder.is_dir())
    free = shutil.disk_usage(place).free / 1024**3
    return [_check("cohort", _writable(place), f"{place}, {free:.0f} GiB free")]


def _clock() -> dict:
    """The time and the zone in which a schedule means its hours; whether files get the same time."""
    import tempfile
    import time
    from datetime import datetime

    with tempfile.TemporaryFile() as file:
        file.write(b"now")
        file.flush()
        off = abs(os.fstat(file.fileno()).st_mtime - time.time())
    here = datetime.now().astimezone()
    return _check("clock", off < MOST_CLOCK_SECONDS, f"{here.isoformat(timespec='seconds')}, zone {here.tzname()}")


def _night(named: str | None) -> list[dict]:
    """Who holds a cohort and how its last run ended; nothing of a cohort that is new or does not answer."""
    from flows.commands.status import lock_line, sentinel_line
    from flows.progress import duration
    from tasks.report import cohort_state
    from vertebra_core.cohort.layout import open_layout
    from vertebra_core.errors import VertebraError

    if named is None:
        return []
    try:
        state = cohort_state(open_layout(named))
    except VertebraError as error:
        return [_check("last run", True, f"none: {error}")]
    checks = [_check("lock", True, lock_line(state.holder))]
    if state.runs:
        newest = state.runs[0]
        took = f" after {duration(newest.seconds)}" if newest.seconds is not None else ""
        checks.append(_check("last run", True, f"{newest.run}, {newest.state}{took}; {state.due} studies due"))
    if state.sentinels:
        sound = state.sentinels["verdict"] != "drifted"
        checks.append(_check("sentinels", sound, sentinel_line(state.sentinels)))
    return checks


def _bucket(cohort: str) -> dict:
    """Whether an object can be written there, on condition as runs need it, and removed again."""
    import secrets

    from flows.places import cohort_place
    from vertebra_core.cohort.commit import create, remove_folder
    from vertebra_core.cohort.conditional import check_conditions
    from vertebra_core.errors import VertebraError
    from vertebra_core.storage import answering

    try:
        with answering(cohort):
            probe = cohort_place(cohort) / f".doctor-{secrets.token_hex(6)}"
            create(probe / "probe", b"probe")
            try:
                check_conditions(probe / "probe")
            finally:
                remove_folder(probe)
    except VertebraError as error:
        return _check("cohort", False, str(error))
    return _check("cohort", True, f"{cohort}, conditional writes are kept")


def _writable(folder: Path) -> bool:
    import tempfile

    place = next((one for one in (folder, *folder.resolve().parents) if one.is_dir()), None)
    try:
        with tempfile.TemporaryFile(dir=place):
            return place is not None
    except OSError:
        return False


def _print_settings(settings) -> None:
    rows = [[path, str(value)] for path, value in settings.flat().items()]
    title = f"Settings in force (profile {settings.profile}; digest {settings.method.digest()})"
    print_table(title, ["setting", "value"], rows, text=["value"])
