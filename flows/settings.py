"""Settings at the border: one TOML file < environment < flags, checked, then handed on as frozen values."""

import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from pydantic import ValidationError, create_model
from pydantic_settings import BaseSettings, InitSettingsSource, SettingsConfigDict

from tasks.settings import ClusterSettings, RunSettings
from vertebra_core.errors import WrongUse
from vertebra_core.settings import Settings

ENVIRONMENT_PREFIX = "VERTEBRA_"
OTHER_VARIABLES = ("DEBUG", "HOME", "PSEUDONYM_SECRET", "STATE_DIR")
"""Variables with the prefix that are not settings: tracebacks, the folder of prefect.yaml, a secret shared by cohorts,
where servers keep state."""
PROFILES = Path(__file__).resolve().parent.parent / "deployments" / "profiles"
"""Where the named profiles lie, in a checkout and in an installed package alike."""
DEFAULT_PROFILE = "local"
ENGINE = {"run": RunSettings, "cluster": ClusterSettings}
"""Sections beside those of the method, none of which changes a measured value."""


@dataclass(frozen=True)
class InForce:
    """The settings of one command, after all sources had their say."""

    method: Settings
    run: RunSettings
    profile: str
    cluster: ClusterSettings = field(default_factory=ClusterSettings)

    def flat(self) -> dict[str, Any]:
        """Every setting by its path, as ``--set`` takes it: "run.workers" -> 0."""
        sections = {**asdict(self.method), "run": asdict(self.run), "cluster": asdict(self.cluster)}
        return {f"{section}.{key}": value for section, keys in sections.items() for key, value in keys.items()}


def load_settings(profile: str = DEFAULT_PROFILE, flags: Mapping[str, Any] | None = None) -> InForce:
    """Settings from a profile, the environment (``VERTEBRA_RUN__WORKERS=4``) and flags, in rising order of strength.

    Parameters
    ----------
    profile : str
        Name of a file in ``deployments/profiles`` or path of a TOML file.
    flags : mapping
        "section.key" -> value; None values are flags that were not given.

    Raises
    ------
    WrongUse
        An unknown profile, section or key, or a value that does not fit; the message names its path.
    """
    given = {path: value for path, value in (flags or {}).items() if value is not None}
    sources = nested(given), nested(environment_flags(os.environ)), read_profile(profile)
    try:
        loaded = settings_class(*sources)()
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        raise WrongUse(f"setting {path}: {said} (given: {first['input']!r})") from error
    sections = {one.name: getattr(loaded, one.name) for one in fields(Settings)}
    run, cluster = (getattr(loaded, name) for name in ENGINE)
    return InForce(Settings(**sections), run, profile, cluster)


def settings_class(*documents: Mapping[str, Any]) -> type[BaseSettings]:
    """The class whose sections are those of `Settings` and `ENGINE`, filled from documents, the strongest first."""

    class Sources(BaseSettings):
        model_config = SettingsConfigDict(extra="forbid", frozen=True)

        @classmethod
        def settings_customise_sources(cls, settings_cls, *sources, **more):
            return tuple(InitSettingsSource(settings_cls, dict(document)) for document in documents)

    sections = {one.name: (one.type, one.type()) for one in fields(Settings)}
    engine = {name: (kind, kind()) for name, kind in ENGINE.items()}
    return create_model("VertebraSettings", __base__=Sources, **engine, **sections)


def read_profile(profile: str) -> dict[str, Any]:
    """The TOML document of a profile; the default profile may be absent: it says what is so anyway."""
    path = Path(profile) if profile.endswith(".toml") else PROFILES / f"{profile}.toml"
    if not path.is_file():
        if profile == DEFAULT_PROFILE:
            return {}
        known = ", ".join(sorted(file.stem for file in PROFILES.glob("*.toml"))) or "none here"
        raise WrongUse(f"no such profile: {profile} (known: {known}; or the path of a .toml file)")
    try:
        return tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise WrongUse(f"{path}: not TOML ({error})") from error


def nested(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Turn "section.key" paths into a document.

    Examples
    --------
    >>> nested({"run.workers": 2, "run.device": "cpu"})
    {'run': {'workers': 2, 'device': 'cpu'}}
    """
    document: dict[str, Any] = {}
    for path, value in flags.items():
        section, _, key = path.partition(".")
        if not key:
            raise WrongUse(f"setting {path}: expected SECTION.KEY")
        document.setdefault(section, {})[key] = value
    return document


def assignments(words: Sequence[str]) -> dict[str, Any]:
    """The flags ``--set SECTION.KEY=VALUE`` as a mapping.

    Examples
    --------
    >>> assignments(["curve.presence=0.6", "run.device=cpu"])
    {'curve.presence': 0.6, 'run.device': 'cpu'}
    """
    pairs = [word.partition("=") for word in words]
    if wrong := [key for key, equals, _ in pairs if not equals]:
        raise WrongUse(f"--set {wrong[0]}: expected SECTION.KEY=VALUE")
    return {key: plain_value(value) for key, _, value in pairs}


def environment_flags(environment: Mapping[str, str]) -> dict[str, Any]:
    """The variables ``VERTEBRA_SECTION__KEY`` as a mapping; a misspelt one is refused, never ignored in silence.

    Examples
    --------
    >>> environment_flags({"VERTEBRA_RUN__WORKERS": "4", "HOME": "/home/me"})
    {'run.workers': 4}
    """
    flags = {}
    for variable, value in environment.items():
        name = variable.removeprefix(ENVIRONMENT_PREFIX)
        if name == variable or name in OTHER_VARIABLES:
            continue
        section, underscores, key = name.lower().partition("__")
        if not underscores:
            raise WrongUse(f"environment variable {variable}: expected {ENVIRONMENT_PREFIX}SECTION__KEY")
        flags[f"{section}.{key}"] = plain_value(value)
    return flags


def plain_value(text: str) -> Any:
    """A value as TOML writes it (4, 0.5, true, [0.0, 2.0]); anything else is the text itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
