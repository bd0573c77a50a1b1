from celery import Celery

from lowtide.tasks.fork import _start_afresh


def test_an_app_forks_that_has_a_broker_and_a_backend_in_memory() -> None:
    with Celery(broker="memory://", backend="cache+memory://", set_as_current=False) as app:
        backend = app.backend
        _start_afresh(app)

        assert app.backend is backend
