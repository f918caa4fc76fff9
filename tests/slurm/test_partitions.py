"""What sinfo and people write of partitions and generic resources."""

import pytest

from src.slurm import partitions
from src.slurm.partitions import gpus_in, of_partition, parse_node_groups

SINFO = """gpu*|up|1-00:00:00|3|idle|gpu:2080ti:4(S:0-1)
gpu*|up|1-00:00:00|1|down*|gpu:2080ti:4(S:0-1)
long|up|infinite|1|mixed|gpu:a100:2(S:0),gpu:v100:2(S:1),shard:8
short|up|30:00|1|mixed|gpu:3090:2
"""


@pytest.mark.parametrize(
    ("gres", "gpus"),
    [
        ("gpu", [("", 1)]),
        ("gpu:4", [("", 4)]),
        ("gpu:a100", [("a100", 1)]),
        ("gpu:2080ti:4", [("2080ti", 4)]),
        ("gpu:3090:2", [("3090", 2)]),
        ("gpu:1g.10gb:7(S:0,2)", [("1g.10gb", 7)]),
        ("gpu:a100:4(S:0-1),gpu:v100:2,shard:a100:8", [("a100", 4), ("v100", 2)]),
        ("gpu:(null):2(S:0)", [("", 2)]),
        ("gpu:a100:no_consume:4", [("a100", 4)]),
        ("gres/gpu:1", [("", 1)]),
        ("gpu:0", []),
        ("mps:400,nic:2", []),
        ("(null)", []),
        ("", []),
    ],
)
def test_gpus_in_generic_resources(gres: str, gpus: list[tuple[str, int]]) -> None:
    assert gpus_in(gres) == gpus


def test_gpus_without_a_type_may_be_of_any() -> None:
    [mixed] = of_partition(parse_node_groups(SINFO), "long")
    assert mixed.has_gpus([("", 4)])
    assert mixed.has_gpus([("a100", 2), ("v100", 1)])
    assert not mixed.has_gpus([("a100", 3)])
    assert not mixed.has_gpus([("", 5)])


@pytest.mark.parametrize(
    ("partition", "minutes"),
    [(None, 1440), ("gpu", 1440), ("long", None), ("long,short", 30), ("none", None)],
)
def test_longest_time_limit(
    partition: str | None, minutes: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions, "node_groups", lambda: parse_node_groups(SINFO))
    assert partitions.max_time_minutes(partition) == minutes
