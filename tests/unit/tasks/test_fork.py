import subprocess
import sys

from celery import Celery

from lowtide.tasks.fork import _start_afresh


def test_an_app_forks_that_has_a_broker_and_a_backend_in_memory() -> None:
    with Celery(broker="memory://", backend="cache+memory://", set_as_current=False) as app:
        backend = app.backend
        _start_afresh(app)

        assert app.backend is backend


FORKING = """
import contextlib, os, signal, threading
from celery import Celery
from celery.app.amqp import AMQP
from kombu.connection import Connection
from kombu.transport.redis import Channel
from kombu.utils.objects import cached_property
from lowtide.tasks.fork import separate

os.register_at_fork(after_in_child=lambda: signal.alarm(20))  # ends a child that waits for a lock
app = Celery(broker="memory://", backend="redis://localhost:1", set_as_current=False)
separate(app)

def send():
    app.send_task("a", ignore_result=True)

def hold(properties, held, forked):
    with contextlib.ExitStack() as locks:
        for found in properties:
            locks.enter_context(found.lock)
        held.set()
        forked.wait()

send()
for kind in (Celery, AMQP, type(app.backend), Connection, Channel):
    properties = {
        name: found
        for base in kind.__mro__
        for name, found in vars(base).items()
        if isinstance(found, cached_property)
    }
    held, forked = threading.Event(), threading.Event()
    thread = threading.Thread(target=hold, args=(properties.values(), held, forked))
    thread.start()
    held.wait()
    if os.fork() == 0:
        for name in properties:
            delattr(object.__new__(kind), name)  # which takes its lock, and is done
        send()
        os._exit(0)
    status = os.wait()[1]
    forked.set()
    thread.join()
    print(kind.__name__, len(properties) > 0, status)
    if status:
        break
"""


def test_no_child_waits_for_a_lock_of_a_cached_property_that_another_thread_held_at_the_fork() -> None:
    run = subprocess.run([sys.executable, "-c", FORKING], capture_output=True, text=True, timeout=100)

    kinds = ("Celery", "AMQP", "RedisBackend", "Connection", "Channel")
    assert (run.stdout.splitlines(), run.stderr) == ([f"{kind} True 0" for kind in kinds], "")
