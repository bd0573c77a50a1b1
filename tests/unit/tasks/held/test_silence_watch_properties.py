from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from lowtide.tasks.held.silence_watch import SilenceWatch

QUIET_S, GAP_S = 20.0, 6.0
SCORES = st.dictionaries(st.sampled_from("abc"), st.sampled_from([7.0, 1.0, 2.0]))
LOOKS = st.lists(st.tuples(st.sampled_from([0.0, 1.0, 2.0, 5.0, 6.0, 6.5, 20.0]), SCORES), min_size=1, max_size=25)
QUIET_LOOKS = st.lists(
    st.tuples(st.sampled_from([1.0, 2.0, 5.0, 6.0]), st.sampled_from([{"a": 1.0}, {"a": 1.0, "b": 7.0}, {"a": 2.0}])),
    min_size=5,
    max_size=25,
)

History = list[tuple[float, dict[str, float]]]


def quiet_by_definition(history: History) -> dict[str, float]:
    """Tags that had the same score in every look of the last `QUIET_S` and more, none of them after a gap."""
    now_s, scores = history[-1]
    found = {}
    for tag, score in scores.items():
        same: list[float] = []
        for at_s, seen in reversed(history):
            if same and same[-1] - at_s > GAP_S:
                break
            if tag not in seen or seen[tag] != score:
                break
            same.append(at_s)
        if now_s - same[-1] >= QUIET_S:
            found[tag] = score
    return found


@given(looks=LOOKS | QUIET_LOOKS, restarts=st.sets(st.integers(0, 24), max_size=2))
def test_quiet_is_what_was_seen_unchanged_all_the_time(
    looks: list[tuple[float, dict[str, float]]], restarts: set[int]
) -> None:
    watch, history, now_s = SilenceWatch(quiet_s=QUIET_S, gap_s=GAP_S), [], 0.0
    for number, (after_s, scores) in enumerate(looks):
        now_s += after_s
        if number in restarts:
            watch.restart()
            history = []
        history.append((now_s, scores))
        assert watch.look(scores, now_s) == quiet_by_definition(history)


@given(looks=QUIET_LOOKS)
def test_what_has_been_quiet_for_longest_comes_first(looks: list[tuple[float, dict[str, float]]]) -> None:
    watch, now_s, since_s = SilenceWatch(quiet_s=QUIET_S, gap_s=GAP_S), 0.0, {}
    before: dict[str, float] = {}
    for after_s, scores in looks:
        now_s += after_s
        since_s = {
            tag: since_s[tag] if tag in before and before[tag] == score else now_s for tag, score in scores.items()
        }
        before = scores
        order = [since_s[tag] for tag in watch.look(scores, now_s)]
        assert all(first <= second for first, second in pairwise(order))
