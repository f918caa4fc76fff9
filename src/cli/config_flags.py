"""Flags for the fields of RunConfig, and a RunConfig from flags, a YAML file and a parent run."""

import argparse
from collections.abc import Callable, Collection, Mapping
from dataclasses import Field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from src.common import files
from src.common.data_names import default_dataset_path
from src.common.errors import InvalidValue, UserError
from src.common.model_source import code_of
from src.common.option_fields import checked, kind_of, shown_choices
from src.common.paths import CONFIG
from src.common.paths import weights as weights_file
from src.common.removed_files import why_removed
from src.common.yaml_files import read_yaml
from src.config import (
    FIELD_GROUPS,
    FIND,
    SEARCH,
    RunConfig,
    check_given,
    from_mapping,
    given_names,
    with_digests,
)


def add_config_flags(parser: argparse.ArgumentParser) -> None:
    """Add a flag for every field of RunConfig that people give, grouped as in --help."""
    for title in FIELD_GROUPS:
        members = [spec.name for spec in fields(RunConfig) if spec.metadata["group"] == title]
        add_flags_of(members, parser.add_argument_group(title))


def add_flags_of(
    names: Collection[str],
    group: "argparse._ActionsContainer",
    texts: Mapping[str, str] = MappingProxyType({}),
    *,
    without_default: Collection[str] = (),
) -> None:
    """Add flags for some fields of RunConfig to a parser or a group of one.

    A flag that is not given leaves no attribute in the namespace. texts: help by name, where it is
    not that of training. without_default: the flags that have another default than in training.
    """
    specs = {spec.name: spec for spec in fields(RunConfig)}
    for name in names:
        text = texts.get(name, specs[name].metadata["help"])
        text = _help(specs[name], text, has_default=name not in without_default)
        _add_flag(group, specs[name], text)


def _add_flag(group: "argparse._ActionsContainer", spec: "Field[Any]", text: str) -> None:
    short, long = spec.metadata["short"], f"--{spec.name}"
    names = [f"-{short}", long] if short else [long]
    if kind_of(spec) != "bool":
        metavar = spec.metadata["metavar"]
        action = _Joined if spec.metadata["canonical"] else "store"
        group.add_argument(
            *names, default=argparse.SUPPRESS, metavar=metavar, help=text, action=action
        )
        return
    # --help shows the spelling that changes the default
    opposite = f"--no_{spec.name}"
    for flags, value in ((names, True), ([opposite], False)):
        group.add_argument(
            *flags,
            dest=spec.name,
            action="store_const",
            const=value,
            default=argparse.SUPPRESS,
            help=text if value != bool(spec.default) else argparse.SUPPRESS,
        )


class _Joined(argparse.Action):
    """Joins the values of a flag that is given several times by commas."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        before = getattr(namespace, self.dest, None)
        setattr(namespace, self.dest, f"{before},{values}" if before else values)


def _help(spec: "Field[Any]", text: str, *, has_default: bool) -> str:
    """The help of a field, with its choices after the first phrase and its default at the end."""
    if kind_of(spec) == "bool" and spec.default is not None:
        return text
    if choices := shown_choices(spec):
        what, mark, notes = text.partition("; ")
        text = f"{what} ({', '.join(choices)}){mark}{notes}"
    if has_default:
        default = default_dataset_path() if spec.name == "base_dataset_path" else spec.default
        shown = "the architecture's own" if default is None else default
        text += f" [{shown}]"
    return text.replace("%", "%%")


def value_of_field(name: str) -> Callable[[str], Any]:
    """An argparse type that takes the values of a field, for a flag of another command."""
    [spec] = (spec for spec in fields(RunConfig) if spec.name == name)

    def read(text: str) -> Any:
        try:
            return checked(spec, text)
        except InvalidValue as error:
            raise argparse.ArgumentTypeError(f"{text!r}: expected {error.expected}") from None

    return read


def config_from(
    parsed: argparse.Namespace, dataset_at: Callable[[str], str | None] | None = None
) -> tuple[RunConfig, bool]:
    """A RunConfig from the given flags, then --config FILE, then the parent run, in this order.

    dataset_at: the name of the data set in the folder of -d, if --dataset is not given: None for
    the default one. Also returns whether a range test is to choose the learning rate
    (`--learning_rate find`), which then is the default one.
    """
    given = given_settings(parsed)
    file = {} if parsed.config is None else read_yaml(parsed.config)
    if SEARCH in file:
        command = f"python -m src.tune search --config {parsed.config}"
        raise UserError(f"{parsed.config}: this is a search; the command for it is {command}")
    finds_rate = {**file, **given}.get("learning_rate") == FIND
    for settings in (given, file):
        if settings.get("learning_rate") == FIND:
            del settings["learning_rate"]
    if file:
        check_given(file, str(parsed.config))
        from_mapping(file, str(parsed.config))  # errors in the file should name the file
    parent = vars(parsed).get("parent_path")  # not every command has --continue
    inherited = {} if parent is None else _of_parent(parent, {**file, **given})
    settings = {**inherited, **file, **given}
    if "base_dataset_path" in given and "dataset" not in settings and dataset_at:
        name = dataset_at(given["base_dataset_path"])
        settings |= {} if name is None else {"dataset": name}
    return from_flags(settings), finds_rate


def given_settings(parsed: argparse.Namespace) -> dict[str, Any]:
    """The values of the RunConfig flags that were given."""
    return {name: value for name, value in vars(parsed).items() if name in given_names()}


def flags_without_effect(parsed: argparse.Namespace, config: RunConfig) -> str | None:
    """A line that names the given flags that the other settings of a run leave without effect."""
    idle = [
        f"--{name} (only with {_conditions(name)})"
        for name in given_settings(parsed)
        if not config.uses(name)
    ]
    return f"no effect on this run: {', '.join(idle)}" if idle else None


def _conditions(name: str) -> str:
    """The flags with which a field has an effect."""
    conditions: Mapping[str, tuple[object, ...]] = next(
        spec.metadata["matters_if"] for spec in fields(RunConfig) if spec.name == name
    )
    return ", ".join(
        f"--{other}" if values == (True,) else f"--{other} {' or '.join(map(str, values))}"
        for other, values in conditions.items()
    )


def from_flags(values: Mapping[str, Any]) -> RunConfig:
    """A RunConfig from the values of flags, which name its architecture.

    Raises UserError that names the flag.
    """
    try:
        where = default_dataset_path(values.get("dataset", RunConfig.dataset))
        [config] = with_digests([RunConfig(**{"base_dataset_path": where, **values})])
        return config
    except InvalidValue as error:
        raise UserError(
            f"{_flag(error.name)} {str(error.value)!r}: expected {error.expected}"
        ) from None


def _of_parent(path: Path, given: Mapping[str, object]) -> dict[str, Any]:
    """The settings of a parent run, and the fields that name it and its weights.

    path: its folder, or a weights file in its folder. given: settings that win over them. Raises
    UserError if the folder alone names an architecture that would have to be imported.
    """
    weights = path if path.suffix == ".pt" else path / weights_file("best_val_acc")
    settings = files.read_json(weights.parent / CONFIG)
    if settings is not None and not weights.is_file() and (why := why_removed(weights)):
        raise UserError(f"--continue {str(path)!r}: no {weights.name} in it: {why}")
    if settings is None or not weights.is_file():
        raise UserError(
            f"--continue {str(path)!r}: expected a run folder with {weights.name}, or a weights "
            "file in a run folder"
        )
    parent = from_mapping(settings, f"--continue {str(path)!r}")
    if code_of(parent.model_type) and "model_type" not in given:
        raise UserError(
            f"--continue {str(path)!r}: its model is code, which is run only if you name it "
            f"yourself: -m {parent.model_type}"
        )
    settings = {name: value for name, value in settings.items() if name in given_names()}
    return {
        **settings,
        "parent": f"{parent.id}/{weights.stem}",
        "parent_weights": str(weights.resolve()),
    }


def _flag(name: str) -> str:
    short = next(spec.metadata["short"] for spec in fields(RunConfig) if spec.name == name)
    return f"-{short}/--{name}" if short else f"--{name}"
