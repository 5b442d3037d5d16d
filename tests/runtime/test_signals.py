import os
import signal
import threading

import pytest

from medjax.runtime.signals import deferred_signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_first_is_remembered_second_acts(number, capfd):
    before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}
    seen = []
    previous = signal.signal(number, lambda *_: seen.append("acted"))
    try:
        with deferred_signals() as stopped:
            assert stopped() is None
            os.kill(os.getpid(), number)
            assert stopped() == number and not seen
            os.kill(os.getpid(), number)
            assert seen == ["acted"]
        assert "a second signal stops at once" in capfd.readouterr().err
    finally:
        signal.signal(number, previous)
    assert {n: signal.getsignal(n) for n in before} == before


def test_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with deferred_signals():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_other_threads_remember_nothing():
    found = []

    def work():
        with deferred_signals() as stopped:
            found.append(stopped())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [None]
