"""Checks of Slurm: is it there, and does it have what the workers of a sweep ask for?"""

from collections.abc import Iterator, Mapping, Sequence

from src.slurm import client, submission
from src.slurm.partitions import NodeGroup, gpus_in, node_groups, of_partition
from src.sweep.doctor.checks import Check, ok, warning, wrong
from src.sweep.launch.sbatch import Resources


def slurm_checks(resources: Resources) -> Iterator[Check]:
    """All checks of Slurm. Without it, the first of them is wrong and the only one."""
    if missing := client.missing_commands():
        yield wrong(
            "Slurm's commands",
            f"not in PATH: {', '.join(missing)}",
            "log in to a node of the cluster, or load its module; elsewhere: --executor local",
        )
        return
    yield ok("Slurm's commands", ", ".join(client.COMMANDS))
    settings = client.cluster_config()
    if not settings:
        yield wrong(
            "controller",
            f"slurmctld does not answer ({client.controller_failure()})",
            "nothing can be submitted until it does: scontrol ping",
        )
        return
    yield ok(
        "controller",
        f"cluster {settings.get('ClusterName', '?')}, Slurm {settings.get('SLURM_VERSION', '?')}",
    )
    yield from partition_checks(node_groups(), resources)
    yield from setting_checks(settings)
    limit = submission.max_submit_jobs()
    if limit is None:
        yield ok("number of jobs", "no limit is reported")
    else:
        yield ok("number of jobs", f"at most {limit:,} of yours; submit keeps to that")


def partition_checks(nodes: Sequence[NodeGroup], resources: Resources) -> Iterator[Check]:
    """Checks of each partition that jobs may go to: its nodes, time limit and GPUs."""
    known = ", ".join(dict.fromkeys(group.partition for group in nodes))
    wanted = resources.partition
    for name in [None] if wanted is None else wanted.split(","):
        members = of_partition(nodes, name)
        if members:
            yield from _checks_of_one(members, resources)
        else:
            finding = "there is no default" if name is None else f"{name}: unknown"
            yield wrong("partition", finding, f"--partition one of: {known or 'none'}")


def _checks_of_one(members: Sequence[NodeGroup], resources: Resources) -> Iterator[Check]:
    """Checks of a partition, given its nodes."""
    name = members[0].partition
    working = [group for group in members if group.is_working]
    count, total = sum(g.nodes for g in working), sum(g.nodes for g in members)
    if not members[0].is_up:
        yield wrong("partition", f"{name}: down", "ask the administrators, or take another one")
    elif not count:
        states = ", ".join(sorted({group.state for group in members}))
        yield wrong(
            "partition", f"{name}: no node works ({states})", f"sinfo -R -p {name} says why"
        )
    else:
        yield ok("partition", f"{name}: {count} of {total} nodes work")
    yield _time_limit(members[0], resources)
    yield _gpus(working or members, resources)


def setting_checks(settings: Mapping[str, str]) -> Iterator[Check]:
    """Checks of what happens to jobs: preemption, requeueing, accounting, sizes of arrays."""
    mode = settings.get("PreemptMode", "OFF").upper()
    if "CANCEL" in mode:
        yield warning(
            "preemption",
            "jobs that are preempted are cancelled",
            "then call submit again: what is missing goes on; or --qos or --partition without it",
        )
    elif "SUSPEND" in mode or "GANG" in mode:
        yield warning("preemption", "jobs are suspended", "they go on by themselves, later")
    else:
        yield ok("preemption", "preempted jobs are requeued" if "REQUEUE" in mode else "none")
    if settings.get("AccountingStorageType", "").endswith("none"):
        yield warning("accounting", "none", "sacct knows nothing of jobs that have ended")
    else:
        yield ok("accounting", settings.get("AccountingStorageType", "unknown"))
    size = settings.get("MaxArraySize", "")
    if size.isdecimal() and int(size) < 2:
        yield wrong("job arrays", f"MaxArraySize {size}", "workers are array tasks")
    else:
        yield ok("job arrays", f"MaxArraySize {size or 'unknown'}")


def _time_limit(group: NodeGroup, resources: Resources) -> Check:
    asked = max([resources.minutes, *resources.minutes_of.values()])
    if group.seconds is not None and asked * 60 > group.seconds:
        most = group.seconds // 60
        return wrong(
            "time limit",
            f"{asked} minutes are asked for, {group.partition} admits {most}",
            f"--time {most}: a worker that reaches it is requeued and goes on",
        )
    longest = "none" if group.seconds is None else f"{group.seconds // 60} minutes"
    return ok("time limit", f"{asked} minutes are asked for; limit of {group.partition}: {longest}")


def _gpus(nodes: Sequence[NodeGroup], resources: Resources) -> Check:
    gres = sorted({group.gres for group in nodes if group.gres not in ("", "(null)")})
    asked = gpus_in(resources.gres or "")
    if not asked:
        return ok("GPUs", f"none are asked for (--gres {resources.gres or 'none'})")
    if any(group.has_gpus(asked) for group in nodes):
        return ok("GPUs", f"{resources.gres} is asked for, nodes have {', '.join(gres)}")
    return wrong(
        "GPUs",
        f"no node has {resources.gres}; there is {', '.join(gres) or 'none'}",
        "--gres with what there is, or --gres none for a CPU",
    )
