"""Options of several commands."""

from __future__ import annotations

import os

import click


def _given_variables(
    context: click.Context, option: click.Parameter, given: tuple[str, ...]
) -> dict[str, str]:
    variables: dict[str, str] = {}
    for each in given:
        name, is_given, value = each.partition("=")
        if not name or (not is_given and name not in os.environ):
            raise click.BadParameter(f"{each!r}: NAME=VALUE, or NAME for a variable that is set here")
        variables[name] = value if is_given else os.environ[name]
    return variables


env_option = click.option(
    "--env",
    multiple=True,
    callback=_given_variables,
    metavar="NAME[=VALUE]",
    help="A variable for the agent, with the value that it has here unless one is given. Keys and endpoints of model "
    "providers are not passed otherwise. May be given several times.",
)
