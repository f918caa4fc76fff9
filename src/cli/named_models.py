"""Resolve the architectures that a person names: on the command line, in a recipe, in a set file.

Only what went through here may be imported: see `src.common.model_source.name_source`.
"""

import argparse
from collections.abc import Iterable
from dataclasses import replace

from src.common.model_source import code_of, find, name_source
from src.config import RunConfig


def with_digests(configs: Iterable[RunConfig]) -> list[RunConfig]:
    """The configs, each with the digest of the source of its architecture as it is now.

    Raises UserError if a source is missing, or is not what it should be.
    """
    configs = list(configs)
    digests = {name: name_model(name) for name in dict.fromkeys(c.model_type for c in configs)}
    return [
        replace(config, model_digest=digest)
        if (digest := digests[config.model_type]) != config.model_digest
        else config
        for config in configs
    ]


def name_model(model_type: str) -> str | None:
    """Allow the source of an architecture to be imported, and return its digest.

    None, and nothing to allow, for architectures of this project and of libraries. Raises
    UserError as `with_digests` does.
    """
    reference = code_of(model_type)
    if reference is None:
        return None
    source = find(reference)
    name_source(source)
    return source.digest


def add_model_option(parser: "argparse._ActionsContainer") -> None:
    """Add --model_type to a command that reads run folders; without it no attribute is left."""
    parser.add_argument(
        "-m",
        "--model_type",
        default=argparse.SUPPRESS,
        metavar="MODEL",
        help="FILE.py:NAME or PACKAGE.MODULE:NAME of a run of your own architecture, whose code "
        "is run only if you name it",
    )
