"""Read YAML files."""

from pathlib import Path

from src.common.errors import UserError, one_line


def read_yaml(path: Path) -> dict[str, object]:
    """The mapping in a YAML file. Raises UserError if it is missing or is no mapping."""
    values = load_yaml(path)
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected 'name: value' lines")
    return {str(name): value for name, value in values.items()}


def load_yaml(path: Path) -> object:
    """The content of a YAML file. Raises UserError if it is missing or not valid."""
    import yaml  # 30 ms, which flags alone can do without

    try:
        return yaml.safe_load(path.read_text())
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid YAML: {one_line(error)}") from None
