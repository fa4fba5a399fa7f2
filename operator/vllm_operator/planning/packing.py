"""How many groups of pods fit on nodes, when every pod of a group is to have a node of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def groups_of(pods: int, slots: Iterable[tuple[int, int]]) -> int:
    """Return how many groups of `pods` there is room for, each pod of a group on a node of its own.

    `slots`: how many pods a node holds, and how many such nodes there are. So many groups can be placed exactly when
    the nodes, of which each takes one pod of a group at most, have room for all pods of them.

    >>> groups_of(2, [(1, 3)]), groups_of(2, [(8, 1)]), groups_of(2, [(2, 2), (1, 1)])
    (1, 0, 2)
    """
    slots = tuple(slots)
    fewest, most = 0, sum(held * nodes for held, nodes in slots) // pods
    while fewest < most:
        groups = (fewest + most + 1) // 2
        if sum(nodes * min(held, groups) for held, nodes in slots) >= groups * pods:
            fewest = groups
        else:
            most = groups - 1
    return fewest
