import json
from collections.abc import Iterator
from typing import Any
from weakref import WeakSet

import pytest
from celery import Celery, Signature, _state, chain, chord, group

from lowtide.config import load_settings
from lowtide.tasks import InferenceRequest, InvalidRequest, infer, infer_chunk
from lowtide.tasks import app as app_module
from lowtide.tasks.callbacks import CALLBACKS_HEADER, queue_of, queues_of
from lowtide.tasks.client import served

REQUEST = {"model": "digits", "uri": "gs://b/1"}
ours = app_module.app


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests may have left apps behind, and one of them, or ours, as the default."""
    monkeypatch.setattr(_state, "_apps", WeakSet([ours]))
    monkeypatch.setattr(_state._tls, "current_app", None)
    monkeypatch.setattr(_state, "default_app", None)
    monkeypatch.setattr(served, "check", lambda *_: None)


@pytest.fixture
def theirs() -> Iterator[Celery]:
    """An application's own app, which is not the current one of this thread."""
    app = Celery("theirs", broker="memory://", set_as_current=False)
    app.conf.update(task_default_queue="web", task_routes={"theirs.report": {"queue": "reports"}})

    def task(outputs: object) -> None: ...

    app.task(name="theirs.done", shared=False)(task)
    app.task(name="theirs.special", shared=False)(task)
    app.tasks["theirs.special"].queue = "special"
    yield app
    app.close()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What our app would send: the options of each task."""
    options: list[dict[str, Any]] = []
    monkeypatch.setattr(type(ours), "send_task", lambda *_, **given: options.append(given))
    return options


def running(told: dict[str, str]) -> Any:
    """A task that runs in a worker of ours, in this thread, with what its sender said of callbacks."""
    infer.push_request(headers={}, called_directly=False, **{CALLBACKS_HEADER: told})
    return infer


def test_callbacks_go_where_the_callers_app_would_send_them(theirs: Celery) -> None:
    done, report = theirs.tasks["theirs.done"].s(), theirs.signature("theirs.report")
    special = theirs.tasks["theirs.special"].s()

    assert queues_of({}, ours=ours) == {}
    assert queues_of({"link": done}, ours=ours) == {"*": "web"}
    assert queues_of({"link": [done, report]}, ours=ours) == {"*": "web", "theirs.report": "reports"}
    assert queues_of({"chain": [special, done]}, ours=ours) == {"*": "web", "theirs.special": "special"}
    assert queues_of({"chord": report, "link_error": done}, ours=ours)["theirs.report"] == "reports"


@pytest.mark.parametrize("make", [group, chain, lambda *tasks: chord(tasks, tasks[0])], ids=["group", "chain", "chord"])
def test_callbacks_inside_others_are_found(theirs: Celery, make: Any) -> None:
    done, report = theirs.tasks["theirs.done"].s(), theirs.signature("theirs.report")

    assert queues_of({"link": make(done, report)}, ours=ours) == {"*": "web", "theirs.report": "reports"}
    assert queues_of({"link": done.set(link_error=[report])}, ours=ours) == {"*": "web", "theirs.report": "reports"}


def test_a_callback_that_names_a_queue_needs_no_other(theirs: Celery) -> None:
    report = theirs.signature("theirs.report").set(queue="mine")

    assert queues_of({"link": report}, ours=ours) == {"*": "web"}


def test_a_chain_takes_the_callers_app_along_though_celery_makes_it_ours(
    theirs: Celery, sent: list[dict[str, Any]]
) -> None:
    chain(infer.s(REQUEST), theirs.tasks["theirs.done"].s(), theirs.signature("theirs.report")).apply_async()

    assert sent[0]["headers"][CALLBACKS_HEADER] == {"*": "web", "theirs.report": "reports"}


def test_of_several_applications_the_one_that_made_a_callback_is_asked(theirs: Celery) -> None:
    with Celery("others", set_as_current=False):
        assert queues_of({"link": theirs.signature("theirs.report")}, ours=ours)["theirs.report"] == "reports"
        assert queues_of({"link": Signature(theirs.tasks["theirs.done"])}, ours=ours) == {"*": "web"}


def test_a_worker_sends_callbacks_where_the_task_that_ran_was_told() -> None:
    task = running({"*": "web", "theirs.report": "reports"})
    _state.push_current_task(task)
    try:
        assert queue_of("theirs.done", ours=ours) == "web"
        assert queue_of("theirs.report", ours=ours) == "reports"
        assert queues_of({"link": {"task": "x", "options": {}}}, ours=ours)["theirs.report"] == "reports"
    finally:
        _state.pop_current_task()
        task.pop_request()


def test_without_any_word_callbacks_go_to_celerys_own_default_queue_and_never_to_one_of_ours() -> None:
    route = ours.amqp.router.route({}, "somebodys.task", ([{"model": "digits"}],), {})

    assert route["queue"].name == "celery"
    assert ours.conf.task_default_queue != "celery", "purging what is the app's own must not touch what is theirs"


def test_an_app_of_its_own_that_is_configured_for_the_fleet_is_not_asked_where_it_sends_its_tasks() -> None:
    with Celery("mine", set_as_current=False) as mine:
        mine.conf.update(app_module.celery_config(load_settings()))
        _state._apps.add(mine)

        assert mine.amqp.router.route({}, "mine.task", (), {})["queue"].name == "lowtide"
        assert queue_of("mine.task", ours=ours) == "lowtide"


@pytest.mark.usefixtures("theirs")
def test_a_signature_of_ours_can_be_sent_by_an_app_that_knows_nothing_of_us() -> None:
    signature = infer.si(InferenceRequest(**REQUEST, priority="high"))

    assert signature["options"]["queue"] == "lowtide.digits.high"
    assert signature["options"]["headers"][CALLBACKS_HEADER] == {"*": "web"}
    assert signature["args"] == ({**REQUEST, "priority": "high"},)
    assert infer.s(REQUEST).set(queue="mine")["options"]["queue"] == "mine"
    assert "queue" not in infer.s()["options"]


@pytest.mark.usefixtures("theirs")
def test_a_signature_holds_what_any_app_can_write_as_json_wherever_a_request_stands() -> None:
    request = InferenceRequest(**REQUEST)

    for signature in (
        infer.s(request=request),
        infer_chunk.s([request, REQUEST]),
        infer_chunk.s(requests=(request,)),
        infer.map([request]),
        infer.starmap([(request,)]),
        infer.chunks([(request,)], 1),
    ):
        assert json.loads(json.dumps(signature))["options"]["queue"] == "lowtide.digits"


def test_where_another_app_has_our_tasks_too_they_go_to_their_models_queue_all_the_same(theirs: Celery) -> None:
    sent: list[dict[str, Any]] = []
    theirs.send_task = lambda *_, **given: sent.append(given)
    theirs.tasks["lowtide.infer"].delay(REQUEST)

    assert sent[0]["queue"] == "lowtide.digits"
    assert sent[0]["serializer"] == "json"


def test_in_a_chain_the_outputs_before_a_request_are_an_error_that_says_what_to_write() -> None:
    with pytest.raises(InvalidRequest, match=r"infer\.si\("):
        infer.apply_async(([{"label": "2"}], REQUEST))
