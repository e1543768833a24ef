"""What kinds of work were measured to take, for all workers of an installation to foretell by."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from redis import Redis

from jobs.connect import text
from jobs.keys import Keys
from schemas.settings import Settings

# Seconds of work for which the latest measurements stand: older ones fade as new ones come.
_MEMORY = 60.0


@dataclass(frozen=True)
class Cost:
    """Seconds that a second of foretold work really takes; `weight`: seconds it was measured on.

    A weight of 0 is a guess.
    """

    factor: float = 1.0
    weight: float = 0.0

    def after(self, foretold: float, spent: float) -> Self:
        """The mean with one more measurement, each counting by the seconds that it took."""
        before = self.weight / self.factor
        weight = self.weight + spent
        return type(self)(weight / (before + foretold), min(weight, _MEMORY))


class Costs:
    """Measured costs by name, in Redis: they outlive workers and restarts."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._key = Keys(settings.key_prefix).costs

    def known(self, names: Iterable[str]) -> dict[str, Cost]:
        """Those of these names that were ever measured. One round trip."""
        asked = list(names)
        if not asked:
            return {}
        found = self._redis.hmget(self._key, asked)
        return {
            name: _cost(text(value))
            for name, value in zip(asked, found, strict=True)
            if value is not None
        }

    def learn(self, measured: Mapping[str, tuple[float, float]]) -> None:
        """Take in (foretold, spent) seconds by name.

        Of two workers that learn of one name at the same moment one may go unheard: the next job
        tells as well.
        """
        if not measured:
            return
        known = self.known(measured)
        after = {
            name: known.get(name, Cost()).after(foretold, spent)
            for name, (foretold, spent) in measured.items()
        }
        said: dict[Any, Any] = {
            name: f"{cost.factor!r} {cost.weight!r}" for name, cost in after.items()
        }
        self._redis.hset(self._key, mapping=said)


def _cost(said: str) -> Cost:
    factor, _, weight = said.partition(" ")
    return Cost(float(factor), float(weight))
