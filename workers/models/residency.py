"""Which models stay in memory between jobs."""

from collections import OrderedDict

from catalogue.budget import model_objection
from catalogue.cached import description
from catalogue.files import CHECKPOINT_FILE, CONFIG_FILE, Stamp, stamp
from catalogue.locate import Location, locate
from catalogue.memory import loading_bytes, weight_bytes
from catalogue.tokeniser import TOKENIZER_FILE
from schemas.problem import ProblemError, ProblemType
from schemas.settings import Settings
from workers.models.fetching import fetch
from workers.models.loading import LoadedModel, load

Stamps = tuple[tuple[str, Stamp], ...]


class Residency:
    """The models of one worker, least recently used out first.

    At most `settings.resident_models` of them, and within `settings.job_memory_bytes` together.

    Not for several threads at once: a worker runs one job at a time.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._held: OrderedDict[str, tuple[LoadedModel, Stamps]] = OrderedDict()

    def get(self, name: str) -> tuple[LoadedModel, bool]:
        """The model, and whether this call loaded it; loads again when its files have changed.

        The one that must leave goes before the new one loads, so memory never holds one too many.
        Raises UnknownModel (from `locate`), what `load` raises, and ProblemError (out-of-memory)
        for a model that is over the budget by itself; other models stay usable.
        """
        location = locate(name, self._settings)
        held = self._held.get(name)
        if held is not None and held[1] == _stamps(location):
            self._held.move_to_end(name)
            return held[0], False
        # Both references go, or the old model would stay in memory beside the new one.
        del held
        self._held.pop(name, None)
        while len(self._held) >= self._settings.resident_models:
            self._held.popitem(last=False)
        location = fetch(location)
        described = description(location, self._settings)
        objection = model_objection(described, self._settings.job_memory_bytes)
        if objection is not None:
            raise ProblemError(ProblemType.OUT_OF_MEMORY, objection)
        self._free(loading_bytes(described))
        stamps = _stamps(location)
        loaded = load(location, self._settings)
        self._held[name] = (loaded, stamps)
        return loaded, True

    def make_room(self, name: str, needed: int) -> None:
        """Let go of other models than `name` until a job that needs these bytes fits beside them.

        The budget is `settings.job_memory_bytes`; `needed` counts the model itself.
        """
        self._free(needed, keep=name)

    def _free(self, needed: int, keep: str | None = None) -> None:
        budget = self._settings.job_memory_bytes
        others = [name for name in self._held if name != keep]
        held = sum(weight_bytes(self._held[name][0].description) for name in others)
        for name in others:
            if held + needed <= budget:
                return
            held -= weight_bytes(self._held.pop(name)[0].description)

    def release(self) -> None:
        """Let go of every model."""
        self._held.clear()

    def names(self) -> list[str]:
        """Models in memory, least recently used first."""
        return list(self._held)


def _stamps(location: Location) -> Stamps:
    """Name and stamp of every file that a load reads; empty without a directory."""
    if location.path is None:
        return ()
    tokeniser = location.tokeniser_path or location.path
    found = [location.path / CONFIG_FILE, tokeniser / TOKENIZER_FILE]
    found.append(location.path / CHECKPOINT_FILE)
    found += sorted(location.path.glob("*.safetensors*"))
    return tuple((file.name, stamp(file)) for file in found if file.is_file())
