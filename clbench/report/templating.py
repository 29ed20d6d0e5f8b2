"""How templates are read: of reports, of boards, of cards for the hub."""

from __future__ import annotations

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined


def templates_of(*packages: str, escaped: bool = True) -> Environment:
    """The templates of some packages, where a name that is not given is an error.

    Args:
        packages: whose folders ``templates`` are looked into, in order.
        escaped: whether texts are escaped for HTML.
    """
    return Environment(
        loader=ChoiceLoader([PackageLoader(package) for package in packages]),
        autoescape=escaped,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
