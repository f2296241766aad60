"""``lit-optim schema``: the JSON Schema of a recipe, for editors."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from lit_optim.errors import Mistake
from lit_optim.schema import recipe_schema

__all__ = ["run"]

_HELP = """\
usage: lit-optim schema > recipe.schema.json

Prints the JSON Schema of a recipe. A recipe beside that file which begins with

  # yaml-language-server: $schema=recipe.schema.json

is completed, explained and checked while it is written, in every editor that has the YAML language server.
"""


def run(arguments: Sequence[str]) -> int:
    """The verb, which takes nothing but ``--help``.

    Returns:
        0 once the schema is printed, 1 for any argument.
    """
    if {*arguments} & {"-h", "--help"}:
        print(_HELP, end="")
        return 0
    if arguments:
        remedy = "leave it out; lit-optim schema > recipe.schema.json writes the schema into a file"
        mistake = Mistake("lit-optim schema", "it takes no argument", " ".join(arguments), remedy=remedy)
        print(mistake, file=sys.stderr)
        return 1
    print(json.dumps(recipe_schema(), indent=2))
    return 0
