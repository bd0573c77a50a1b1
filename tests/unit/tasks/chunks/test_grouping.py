import pytest

from lowtide.tasks.chunks.grouping import grouped


@pytest.mark.parametrize(
    ("sizes", "groups"),
    [
        ([], []),
        ([4, 6, 1], [[4, 6], [1]]),
        ([11, 1, 12], [[11], [1], [12]]),
        ([1, 1, 1, 1], [[1, 1, 1], [1]]),
        ([0, 0, 0, 0], [[0, 0, 0], [0]]),
    ],
)
def test_groups_keep_the_order_and_the_bounds_but_for_what_is_larger_by_itself(
    sizes: list[int], groups: list[list[int]]
) -> None:
    assert list(grouped(sizes, lambda size: size, max_bytes=10, max_items=3)) == groups
