"""Queues that share a limit: what may be declared, and the order of queues."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from kiqpy import ConfigError, QueueGroup
from kiqpy.config import configure
from kiqpy.queues import Queue

NAMES = ["critical", "default", "low"]
DRAWS = 20_000


def orders(group: QueueGroup, queues: Sequence[str], times: int = DRAWS) -> list[list[str]]:
    order = group.order(random.Random(7).random)
    return [list(order(queues)) for _ in range(times)]


# -- what may be declared


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"queues": []}, "one or more queues, each once"),
        ({"queues": ["a", "a"]}, "one or more queues, each once"),
        ({"queues": ["low prio"]}, "'low prio' is neither a queue name nor a pattern"),
        ({"queues": ["a", ""]}, "'' is neither a queue name nor a pattern"),
        ({"queues": ["a|b"]}, "neither a queue name nor a pattern"),
        ({"queues": ["tenant-[ab]"]}, "neither a queue name nor a pattern"),
        ({"queues": [7]}, "7 is neither a queue name nor a pattern"),
        ({"queues": [["a"]]}, r"\['a'\] is neither a queue name nor a pattern"),
        ({"queues": None}, r'QueueGroup\(None\): give \["critical", "default"\]'),
        ({"queues": 3}, r"QueueGroup\(3\): give"),
        ({"concurrency": 0}, "concurrency=0: give 1 or more"),
        ({"concurrency": True}, "concurrency=True: give 1 or more"),
        ({"concurrency": 2.5}, "concurrency=2.5: give 1 or more"),
        ({"mode": "weigthed"}, "mode='weigthed': did you mean 'weighted'?"),
        ({"mode": "Strict"}, "mode='Strict': did you mean 'strict'?"),
        ({"mode": None}, "mode=None: give 'strict' or 'weighted'"),
        ({"weights": {"low": 2}}, 'weights have no effect without mode="weighted"'),
        ({"mode": "weighted", "weights": {"lwo": 2}}, "a weight is given for 'lwo'"),
        ({"mode": "weighted", "weights": {"low": 0}}, r"weights\['low'\]=0: give 1 or more"),
        ({"mode": "weighted", "weights": {"low": 0.5}}, r"weights\['low'\]=0.5: give 1"),
        ({"mode": "weighted", "weights": [("low", 2)]}, r"weights=\[\('low', 2\)\]: give"),
    ],
)
def test_what_is_wrong_is_named(given: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        QueueGroup(**{"queues": NAMES, **given})


def test_one_name_is_a_group_of_one() -> None:
    assert QueueGroup("critical").queues == ("critical",)


# -- in which order they are asked


def test_strict_is_always_the_order_of_the_declaration() -> None:
    group = QueueGroup(NAMES)
    for given in (NAMES, NAMES[::-1], ["low", "critical", "default"]):
        assert orders(group, given, 3) == [NAMES] * 3


def test_strict_puts_a_patterns_queues_where_the_pattern_stands() -> None:
    group = QueueGroup(["critical", "tenant-*", "low"])
    asked = ["tenant-2", "low", "tenant-1", "critical"]
    assert orders(group, asked, 1) == [["critical", "tenant-1", "tenant-2", "low"]]


def test_a_name_counts_more_than_a_pattern_that_means_it_too() -> None:
    group = QueueGroup(["tenant-*", "tenant-vip"], mode="weighted", weights={"tenant-vip": 9})
    first = Counter(order[0] for order in orders(group, ["tenant-1", "tenant-vip"]))
    assert first["tenant-vip"] / DRAWS == pytest.approx(0.9, abs=0.02)


def test_weighted_asks_first_in_proportion_to_the_weights() -> None:
    group = QueueGroup(NAMES, mode="weighted", weights={"critical": 6, "default": 3})
    drawn = orders(group, NAMES)
    first = Counter(order[0] for order in drawn)
    shares = {name: first[name] / DRAWS for name in NAMES}
    assert shares == pytest.approx({"critical": 0.6, "default": 0.3, "low": 0.1}, abs=0.02)
    # Once the first is empty, the others share in the same proportion.
    second = Counter(order[1] for order in drawn if order[0] == "critical")
    assert second["default"] / second.total() == pytest.approx(0.75, abs=0.02)


def test_weighted_leaves_no_queue_out() -> None:
    group = QueueGroup(NAMES, mode="weighted", weights={"critical": 1000})
    assert {tuple(sorted(order)) for order in orders(group, NAMES, 1000)} == {tuple(NAMES)}


def test_weighted_without_weights_is_fair() -> None:
    first = Counter(order[0] for order in orders(QueueGroup(NAMES, mode="weighted"), NAMES))
    assert first == pytest.approx(dict.fromkeys(NAMES, DRAWS / 3), rel=0.05)


# -- patterns


def test_names_and_patterns_are_told_apart() -> None:
    group = QueueGroup(["critical", "tenant-*", "v?"])
    assert group.named() == ["critical"]
    assert group.patterns() == ["tenant-*", "v?"]


@pytest.mark.parametrize(
    ("queue", "meant"),
    [
        ("tenant-1", True), ("tenant-", True), ("v1", True), ("v12", False), ("Tenant-1", False),
        ("critical", False), ("a.tenant-1", False),
        ("tenant-a b", False), ("tenant-a|b", False), ("tenant-\ufffd", False),
    ],
)  # fmt: skip
def test_what_a_pattern_means(queue: str, meant: bool) -> None:
    """Names that no app of ours could declare, some other client's, are not taken in either."""
    assert QueueGroup(["tenant-*", "v?", "critical"]).matches(queue) is meant


# -- among an app's queues

GROUP = QueueGroup(["critical", "low"], concurrency=7)


def test_groups_stand_among_the_queues_of_a_list() -> None:
    config = configure({"queues": ["mail", GROUP], "concurrency": 3})
    assert config.queues == {"mail": 3}
    assert config.groups == (GROUP,)
    assert config.all_queues() == ["mail", "critical", "low"]


def test_groups_stand_among_the_queues_of_a_dict() -> None:
    config = configure({"queues": {"mail": 3, "urgency": GROUP}})
    assert config.queues == {"mail": 3}
    assert config.groups == (GROUP,)


@pytest.mark.parametrize(
    "queues",
    [
        ["mail", "low", "mail"],
        ["low", GROUP],
        {"low": 5, "urgency": GROUP},
        [GROUP, QueueGroup(["other", "low"])],
        [QueueGroup(["tenant-*"]), QueueGroup(["x", "tenant-*"])],
    ],
)
def test_a_queue_has_one_limit_or_one_group(queues: Any) -> None:
    with pytest.raises(ConfigError, match=r"queue '(mail|low|tenant-\*)' is declared twice"):
        configure({"queues": queues})


def test_a_group_counts_against_what_may_run() -> None:
    with pytest.raises(ConfigError, match="add up to 10 jobs at a time, more than max_running=9"):
        configure({"queues": {"mail": 3, "urgency": GROUP}, "max_running": 9})


def test_groups_that_are_none_are_refused() -> None:
    with pytest.raises(ConfigError, match="groups: 'critical' is no QueueGroup"):
        configure({"groups": ["critical"]})


def test_other_queues_stand_instead_of_the_groups_too() -> None:
    """`kiqpy run -q critical:5` was refused: the queue stayed in its group as well."""
    config = configure({"queues": ["mail", GROUP]})
    assert config.replace(retry=3).groups == (GROUP,)
    changed = config.replace(queues={"critical": 5})
    assert (changed.queues, changed.groups) == ({"critical": 5}, ())


def test_a_queue_may_be_declared_as_a_value() -> None:
    config = configure({"queues": {"mail": Queue(3), "low": 2}})
    assert config.queues == {"mail": 3, "low": 2}
    assert config.specs() == [Queue(3, "mail"), Queue(2, "low")]
    with pytest.raises(ConfigError, match="mail"):
        configure({"queues": {"mail": Queue(0)}})


def test_each_declaration_has_a_pipeline_of_its_own() -> None:
    config = configure({"queues": {"mail": 3, "shared": GROUP}})
    assert config.specs() == [Queue(3, "mail"), GROUP]
