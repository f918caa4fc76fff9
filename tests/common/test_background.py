"""Threads beside training, also after a fork."""

import os
import threading

from src.common.background import BackgroundThread


def test_work_is_done_in_order_by_one_thread() -> None:
    thread = BackgroundThread("test")
    done: list[int] = []
    for number in range(5):
        last = thread.submit(done.append, number)
    last.result(60)
    assert done == list(range(5))
    assert thread.submit(threading.get_ident).result(60) != threading.get_ident()


def test_forked_process_has_a_thread_of_its_own() -> None:
    thread = BackgroundThread("test")
    assert thread.submit(os.getpid).result(60) == os.getpid()
    child = os.fork()
    if not child:
        try:
            os._exit(thread.submit(os.getpid).result(10) != os.getpid())
        finally:
            os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
