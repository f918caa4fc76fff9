"""Set files: one run per line; the sbatch scripts take the number of a set."""

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path

from src.common import files
from src.common.errors import UserError
from src.common.option_fields import did_you_mean
from src.common.paths import set_file
from src.config import RunConfig, from_mapping, given_names, with_digests

COLUMNS = (
    "num_epochs",
    "batch_size",
    "model_type",
    "scheduler",
    "data_augmentation",
    "learning_rate",
    "weight_decay",
    "gamma",
)


_RAW = re.compile(r"[^\s#]+")
_QUOTED = re.compile(r"""((?:\w+=)?)(?=['"])((?:'[^']*'|"(?:\\.|[^"\\])*"|\\.|[^\s#'"\\])+)""")
"""A word whose value begins with a quote, with the name of the setting apart."""


def line(config: RunConfig) -> str:
    """Format a run as a line: eight columns, then key=value for fields not at their default.

    Values are quoted as for a shell where that is needed. The digest of a custom architecture is
    left out: it is that of the source when the set is read.
    """
    words = [shlex.quote(str(getattr(config, name))) for name in COLUMNS]
    for spec in fields(config):
        value = getattr(config, spec.name)
        if spec.name in given_names() and spec.name not in COLUMNS and value != spec.default:
            words.append(f"{spec.name}={shlex.quote(str(value))}")
    return " ".join(words)


def parse(text: str, source: str) -> RunConfig:
    """Parse a line. Raises UserError that begins with `source`."""
    words = _words(text, source)
    if len(words) < len(COLUMNS) or any("=" in word for word in words[: len(COLUMNS)]):
        raise UserError(f"{source}: {text.strip()!r}: expected {' '.join(COLUMNS)} [key=value ...]")
    values: dict[str, object] = dict(zip(COLUMNS, words, strict=False))
    for word in words[len(COLUMNS) :]:
        key, equals, value = word.partition("=")
        if not equals:
            raise UserError(f"{source}: {word!r}: expected key=value after the eight columns")
        if key in values:
            raise UserError(f"{source}: {key} is given twice")
        if key not in given_names():
            raise UserError(f"{source}: unknown setting {key!r}{did_you_mean(key, given_names())}")
        values[key] = value
    return from_mapping(values, source)


def _words(text: str, source: str) -> list[str]:
    """The words of a line up to a comment, those that begin with a quote as a shell reads them.

    Elsewhere a quote or a backslash stands for itself, as in lines of earlier versions. Raises
    UserError for a quote without its end.
    """
    words, position = [], 0
    while rest := text[position:].lstrip():
        if rest.startswith("#"):
            break
        position = len(text) - len(rest)
        if quoted := _QUOTED.match(rest):
            following = rest[quoted.end() :]
            if following and not (following[0].isspace() or following[0] == "#"):
                raise UserError(f"{source}: {rest.strip()!r}: expected an end of the quote")
            words.append(quoted[1] + shlex.split(quoted[2])[0])
            position += quoted.end()
            continue
        raw = _RAW.match(rest)
        assert raw  # neither a space nor a comment is left
        if re.match(r"(\w+=)?['\"]", raw[0]):
            raise UserError(f"{source}: {rest.strip()!r}: expected an end of the quote")
        words.append(raw[0])
        position += raw.end()
    return words


def read(path: Path | str) -> list[RunConfig]:
    """The runs of a set file. Raises UserError naming file, line, value and what was expected."""
    path = Path(path)
    try:
        lines = files.read_bytes(path).decode().splitlines()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file") from None
    configs = [
        parse(text, f"{path}, line {number}")
        for number, text in enumerate(lines, 1)
        if text.partition("#")[0].strip()
    ]
    if not configs:
        raise UserError(f"{path}: no runs in it")
    return with_digests(configs)


def write(
    sets: Iterable[Sequence[RunConfig]], folder: Path | str, *, replace: bool = False
) -> list[Path]:
    """Write each set as hyperparameters_<1, 2, ...>.txt in `folder`.

    replace: remove set files of a larger sweep, once the new ones are written. Otherwise raises
    UserError, and writes nothing, if there are any.
    """
    folder = Path(folder)
    texts = ["".join(line(config) + "\n" for config in configs) for configs in sets]
    surplus = [p for n, p in numbered(folder) if n > len(texts)]
    if surplus and not replace:
        raise UserError(
            f"--out {str(folder)!r}: it holds {surplus[0].name}, which is not of this grid of "
            f"{len(texts)} sets; remove it, give --replace or another folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    written = [set_file(folder, number) for number in range(1, len(texts) + 1)]
    for path, text in zip(written, texts, strict=True):
        files.write_text(path, text)
    for path in surplus:
        path.unlink(missing_ok=True)
    return written


def read_numbered(folder: Path, numbers: Sequence[str]) -> dict[str, list[RunConfig]]:
    """The runs of the sets with these numbers, or of all sets if none is given.

    Raises UserError if a set is missing or cannot be read.
    """
    wanted = list(numbers) or [str(n) for n, _ in numbered(folder)]
    if not wanted:
        raise UserError(f"--sets {str(folder)!r}: no set files in it")
    files_by_number = {number: find(folder, number) for number in wanted}
    return {number: read(path) for number, path in files_by_number.items()}


def numbered(folder: Path) -> list[tuple[int, Path]]:
    """The set files of a folder with their numbers, in order."""
    pattern = set_file(folder, 0).name.replace("0", "*")
    files_by_number = [
        (int(number), path)
        for path in folder.glob(pattern)
        if (number := path.stem.rpartition("_")[2]).isdecimal()
    ]
    return sorted(files_by_number)


def find(folder: Path, number: str) -> Path:
    """The file of a set, given its number as text. Raises UserError if there is none."""
    paths = {str(n): path for n, path in numbered(folder)}
    if number not in paths:
        numbers = list(paths)
        allowed = f"{numbers[0]} to {numbers[-1]}" if paths else f"none: no set files in {folder}"
        raise UserError(f"set {number!r}: expected a number, {allowed}")
    return paths[number]
