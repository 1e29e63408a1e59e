"""Docstrings name the parameters that exist, in their order; read by numpydoc, compared with the living objects."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable

import pytest
from numpydoc.docscrape import NumpyDocString

PACKAGES = ("flows", "tasks", "vertebra_core")


def modules() -> list[str]:
    """Every module of the project."""
    found = []
    for package in PACKAGES:
        parent = importlib.import_module(package)
        found += [module.name for module in pkgutil.walk_packages(parent.__path__, f"{package}.")]
    return found


def wrong_parameters(thing: Callable) -> list[str]:
    """Documented parameters that are not in the signature, or stand in another order there."""
    listed = NumpyDocString(inspect.getdoc(thing) or "")["Parameters"]
    named = [name.lstrip("*") for entry in listed for name in entry.name.split(", ")]
    order = list(inspect.signature(thing).parameters) if named else []
    unknown = [name for name in named if name not in order]
    known = [name for name in named if name in order]
    return unknown + [name for name, due in zip(known, sorted(known, key=order.index), strict=True) if name != due]


@pytest.mark.parametrize("module", modules())
def test_documented_parameters_exist_and_stand_in_order(module):
    living = importlib.import_module(module)
    own = [thing for thing in vars(living).values() if getattr(thing, "__module__", None) == module and thing.__doc__]
    functions = [thing for thing in own if inspect.isfunction(thing) or inspect.isclass(thing)]
    wrong = {thing.__qualname__: names for thing in functions if (names := wrong_parameters(thing))}
    assert not wrong


def test_the_check_sees_a_parameter_that_is_not_there_and_one_out_of_order():
    def area(width, height, depth):
        """Multiply.

        Parameters
        ----------
        height, width
            Sides.
        length
            Another.
        """

    assert wrong_parameters(area) == ["length", "height", "width"]
