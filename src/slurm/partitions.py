"""The partitions of this cluster and their nodes, by one call of sinfo."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from src.slurm import client
from src.slurm.job_queue import parse_seconds

_FIELDS = "%P|%a|%l|%D|%T|%G"  # partition, up or down, time limit, nodes, their state, their GPUs
_FLAGS = "*~#!%$@^-+"  # that sinfo appends to a state
_WORKING = ("idle", "mixed", "allocated", "completing", "reserved", "planned")


@dataclass(frozen=True)
class NodeGroup:
    """Nodes of a partition in one state, as a line of sinfo shows them."""

    partition: str
    is_default: bool
    is_up: bool
    seconds: int | None
    """The longest time limit of a job. None: unlimited."""
    nodes: int
    state: str
    gres: str

    @property
    def is_working(self) -> bool:
        """Whether these nodes take jobs, now or later."""
        return self.state in _WORKING

    def gpus(self) -> list[tuple[str, int]]:
        """Kind and number of the GPUs of each node, from such as gpu:a100:4(S:0-1)."""
        matches = re.findall(r"gpu(?::([A-Za-z][\w.-]*))?:(\d+)", self.gres)
        return [(kind, int(number)) for kind, number in matches]


def node_groups() -> list[NodeGroup]:
    """The nodes of all partitions. Empty if Slurm does not answer."""
    output = client.output_of("sinfo", "--noheader", f"--format={_FIELDS}", quiet=True) or ""
    return parse_node_groups(output)


def parse_node_groups(output: str) -> list[NodeGroup]:
    """The lines of sinfo. Lines that cannot be read are left out."""
    groups = []
    for line in output.splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) == 6 and cells[3].isdecimal():
            name, is_up, limit, nodes, state, gres = cells
            groups.append(
                NodeGroup(
                    name.rstrip("*"),
                    name.endswith("*"),
                    is_up == "up",
                    parse_seconds(limit),
                    int(nodes),
                    state.rstrip(_FLAGS).lower(),
                    gres,
                )
            )
    return groups


def of_partition(groups: Sequence[NodeGroup], name: str | None) -> list[NodeGroup]:
    """The nodes of a partition, or (None) of the default one."""
    return [g for g in groups if g.partition == name or (name is None and g.is_default)]


def max_time_minutes(partition: str | None) -> int | None:
    """The longest time limit in a partition, or in the default one. None if there is none known."""
    members = of_partition(node_groups(), partition)
    seconds = members[0].seconds if members else None
    return None if seconds is None else seconds // 60
