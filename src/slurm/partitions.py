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
        """Type and number of the GPUs of each node."""
        return gpus_in(self.gres)

    def has_gpus(self, asked: Sequence[tuple[str, int]]) -> bool:
        """Whether a node has all of these GPUs: those without a type may be of any."""
        there = self.gpus()
        return all(
            sum(number for name, number in there if kind in ("", name)) >= wanted
            for kind, wanted in asked
        )


def gpus_in(gres: str) -> list[tuple[str, int]]:
    """Type and number of the GPUs in generic resources, such as gpu:2080ti:4(S:0-1),shard:8.

    The type is empty if none is named; sockets, other resources and counts of zero are left out.
    """
    gpus = []
    for resource in re.sub(r"\([^)]*\)", "", gres).split(","):
        name, *words = resource.strip().removeprefix("gres/").replace("=", ":").split(":")
        words = [word for word in words if word != "no_consume"]
        number = int(words.pop()) if words and words[-1].isdecimal() else 1
        if name == "gpu" and number:
            gpus.append((words[0] if words else "", number))
    return gpus


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
    """The nodes of a partition, of several with commas between, or (None) of the default one."""
    names = (name or "").split(",")
    return [g for g in groups if g.partition in names or (name is None and g.is_default)]


def max_time_minutes(partition: str | None) -> int | None:
    """The longest time limit in a partition, or in the default one. None if there is none known.

    Of several partitions it is that which all of them admit.
    """
    limits = [group.seconds for group in of_partition(node_groups(), partition)]
    seconds = min((limit for limit in limits if limit is not None), default=None)
    return None if seconds is None else seconds // 60
