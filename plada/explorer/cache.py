"""A cache with a bound: the least recently used value goes first."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class BoundedCache(Generic[K, V]):
    """Values by key, at most `limit` by weight (1 each, unless `weigh` says otherwise). Threads may share it."""

    def __init__(self, limit: int, weigh: Callable[[V], int] = lambda _: 1) -> None:
        self.limit = limit
        self.weight = 0
        self._weigh = weigh
        self._values: OrderedDict[K, V] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: K) -> V | None:
        """The value of a key, None where it is not there (any more)."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key: K, value: V) -> None:
        """Keep a value. One that is heavier than the limit is not kept."""
        weight = self._weigh(value)
        with self._lock:
            old = self._values.pop(key, None)
            self.weight -= self._weigh(old) if old is not None else 0
            if weight > self.limit:
                return
            self._values[key] = value
            self.weight += weight
            while self.weight > self.limit:
                _, gone = self._values.popitem(last=False)
                self.weight -= self._weigh(gone)

    def get_or_make(self, key: K, make: Callable[[], V]) -> V:
        """The value of a key; one that is missing is made. No lock is held meanwhile, so two threads may make it twice."""
        value = self.get(key)
        if value is None:
            value = make()
            self.put(key, value)
        return value
