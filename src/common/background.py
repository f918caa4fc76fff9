"""Threads beside training, each of which does its work in order."""

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
T = TypeVar("T")


class BackgroundThread:
    """One thread, started at its first work. A forked process gets one of its own.

    After a fork, the child would wait for ever for the parent's executor, whose thread it lacks.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._renew()
        os.register_at_fork(after_in_child=self._renew)

    def submit(
        self,
        work: Callable[Arguments, T],
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Future[T]:
        """Do `work` after all that was submitted before."""
        return self._executor.submit(work, *args, **kwargs)

    def _renew(self) -> None:
        self._executor = ThreadPoolExecutor(1, self.name)
