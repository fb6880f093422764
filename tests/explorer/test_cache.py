"""What is kept stays within its bound, and goes in the order in which it was asked for."""

import threading

from plada.explorer.cache import BoundedCache


def test_the_least_recently_used_goes_first() -> None:
    kept: BoundedCache[str, int] = BoundedCache(2)
    kept.put("a", 1)
    kept.put("b", 2)
    assert kept.get("a") == 1
    kept.put("c", 3)
    assert (kept.get("a"), kept.get("b"), kept.get("c"), len(kept)) == (1, None, 3, 2)


def test_a_bound_by_weight_is_never_passed() -> None:
    kept: BoundedCache[int, bytes] = BoundedCache(100, len)
    for number in range(50):
        kept.put(number, bytes(number))
        assert kept.weight <= 100
    assert kept.get(49) == bytes(49)
    assert kept.get(48) == bytes(48)
    assert len(kept) == 2
    kept.put(7, bytes(101))  # more than all of it: not kept, and nothing else lost
    assert (len(kept), kept.weight, kept.get(7)) == (2, 97, None)


def test_a_value_that_is_replaced_weighs_once() -> None:
    kept: BoundedCache[str, bytes] = BoundedCache(100, len)
    for size in (60, 70, 10):
        kept.put("a", bytes(size))
    assert (kept.weight, len(kept)) == (10, 1)
    kept.put("a", bytes(200))
    assert (kept.weight, len(kept)) == (0, 0)


def test_what_is_there_is_not_made_again() -> None:
    kept: BoundedCache[str, list[int]] = BoundedCache(4)
    made: list[int] = []

    def make() -> list[int]:
        made.append(1)
        return []

    assert kept.get_or_make("a", make) == kept.get_or_make("a", make) == []
    assert len(made) == 1


def test_threads_may_share_it() -> None:
    kept: BoundedCache[int, bytes] = BoundedCache(1000, len)

    def work(seed: int) -> None:
        for step in range(2000):
            key, value = (seed * 7 + step * 13) % 60, bytes(step % 90)
            if kept.get(key) is None:
                kept.put(key, value)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert kept.weight == sum(len(kept.get(key) or b"") for key in range(60)) <= 1000
