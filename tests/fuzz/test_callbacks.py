"""Any canvas of an application's own tasks, however nested, hung on one of ours: each goes to its own queue."""

from typing import Any
from weakref import WeakSet

import pytest
from celery import Celery, _state, chain, chord, group
from hypothesis import given
from hypothesis import strategies as st

from lowtide.tasks.app import app as ours
from lowtide.tasks.callbacks import OTHERS, queues_of

NAMES = [f"theirs.{letter}" for letter in "abcdef"]
ROUTES = {"theirs.a": {"queue": "first"}, "theirs.b": {"queue": "second"}, "theirs.c": {"queue": "web"}}
theirs = Celery("theirs", broker="memory://", set_as_current=False)
theirs.conf.update(task_default_queue="web", task_routes=ROUTES)
theirs.close()  # other tests need not know it

leaves = st.builds(
    lambda name, immutable: theirs.signature(name, immutable=immutable), st.sampled_from(NAMES), st.booleans()
)


def canvases(inside: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(inside, min_size=1, max_size=3)
    return st.one_of(
        st.builds(lambda tasks: group(*tasks, app=theirs), several),
        st.builds(lambda tasks: chain(*tasks, app=theirs), several),
        st.builds(lambda header, body: chord(header, body, app=theirs), several, leaves),
        st.builds(lambda task, after: task.clone().set(link=[after]), leaves, inside),
        st.builds(lambda task, after: task.clone().set(link_error=[after]), leaves, inside),
    )


canvas = st.recursive(leaves, canvases, max_leaves=12)


def names_in(value: Any) -> set[str]:
    """By looking everywhere."""
    if isinstance(value, list | tuple):
        return set().union(*map(names_in, value))
    if isinstance(value, dict):
        own = {value["task"]} if value.get("task") in NAMES else set()
        return own.union(*map(names_in, value.values()))
    return set()


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_state, "_apps", WeakSet([ours, theirs]))
    monkeypatch.setattr(_state._tls, "current_app", None)
    monkeypatch.setattr(_state, "default_app", None)


@pytest.mark.parametrize("where", ["link", "link_error", "chain", "chord"])
@given(given_canvas=canvas)
def test_each_task_of_a_canvas_goes_where_its_app_would_send_it(where: str, given_canvas: Any) -> None:
    queues = queues_of({where: [given_canvas]}, ours=ours)

    assert queues[OTHERS] == "web"
    for name in names_in(given_canvas):
        assert queues.get(name, queues[OTHERS]) == ROUTES.get(name, {"queue": "web"})["queue"]
