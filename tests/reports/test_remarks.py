"""What a report says before a payload is sent."""

from types import SimpleNamespace
from typing import Any

import pytest

from plada.reports.remarks import remarks

SUMMARY: Any = SimpleNamespace(names=("cat", "dog"), notes={})


@pytest.mark.parametrize("nearness", [None, [], "far", {"ratio": "1.5"}, {"ratio": 1.1, "classes": {}}])
def test_a_near_target_or_one_of_which_nothing_is_known_needs_no_remark(nearness: Any) -> None:
    assert remarks(SUMMARY, {"nearness": nearness}, None, None, None) == ()


def test_a_far_off_target_is_said() -> None:
    (line,) = remarks(SUMMARY, {"nearness": {"ratio": 1.42, "classes": {"cat": 1.4}}}, None, None, None)
    assert "1.42 times as far from it" in line
