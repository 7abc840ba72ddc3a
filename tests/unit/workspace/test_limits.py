"""Rate limits of the stand-in workspace."""

from demo.workspace.limits import Limits


class Clock:
    """Stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_tier_lets_its_calls_through_and_then_names_the_wait() -> None:
    clock = Clock()
    limits = Limits(clock=clock)
    assert [limits.retry_after("conversations.create", 2, "") for _ in range(20)] == [None] * 20
    clock.now += 45
    assert limits.retry_after("conversations.create", 2, "") == 15
    clock.now += 15
    assert limits.retry_after("conversations.create", 2, "") is None


def test_each_method_has_its_own_window() -> None:
    limits = Limits(clock=Clock())
    for _ in range(20):
        limits.retry_after("pins.add", 2, "")
    assert limits.retry_after("pins.add", 2, "") is not None
    assert limits.retry_after("bookmarks.add", 2, "") is None


def test_posts_burst_five_times_a_channel_then_one_a_second() -> None:
    clock = Clock()
    limits = Limits(clock=clock)
    post = "chat.postMessage"
    assert [limits.retry_after(post, None, "C1") for _ in range(6)] == [None] * 5 + [1]
    assert limits.retry_after(post, None, "C2") is None
    clock.now += 1
    assert [limits.retry_after(post, None, "C1") for _ in range(2)] == [None, 1]


def test_a_time_factor_shortens_windows_and_waits() -> None:
    clock = Clock()
    limits = Limits(factor=10, clock=clock)
    for _ in range(50):
        assert limits.retry_after("chat.update", 3, "") is None
    assert limits.retry_after("chat.update", 3, "") == 6
    clock.now += 6
    assert limits.retry_after("chat.update", 3, "") is None


def test_limits_can_be_switched_off() -> None:
    limits = Limits(clock=Clock())
    limits.on = False
    assert {limits.retry_after("chat.postMessage", None, "C1") for _ in range(100)} == {None}
