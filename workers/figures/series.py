"""Relevances of a method's layers, as an overview and a sheet draw them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from schemas.names import Method
from schemas.result import MethodAttention
from workers.figures import captions
from workers.figures.colours import Floats
from workers.figures.scale import thin


@dataclass(frozen=True)
class Series:
    """One quantity over layers and tokens: values (layers, l).

    signed: as in `Scale.of`, None: if any number is negative.
    """

    title: str
    unit: str
    values: Floats
    signed: bool | None = None

    @cached_property
    def thinned(self) -> tuple[Floats, int]:
        """The values as they are drawn, and the tokens in one column of the drawing."""
        return thin(self.values)

    @cached_property
    def peaks(self) -> list[int]:
        """(layers,) where each layer is largest in magnitude."""
        found: list[int] = np.abs(self.values).argmax(axis=1).tolist()
        return found

    @cached_property
    def largest(self) -> Floats:
        """(layers,) largest magnitude of each layer."""
        return np.abs(self.values[range(len(self.values)), self.peaks])


def relevances(method: Method, layers: Sequence[MethodAttention]) -> list[Series]:
    """The relevance of every token; after it the signed effect, if every layer has one."""
    name = captions.METHODS[method]
    relevance = np.array([layer.token_relevance for layer in layers], dtype=np.float64)
    found = [Series("Token relevance", name.relevance, relevance)]
    effects = [layer.signed_relevance for layer in layers if layer.signed_relevance is not None]
    if len(effects) == len(layers):
        effect = np.array(effects, dtype=np.float64)
        found.append(Series("Signed relevance", name.signed, effect, signed=True))
    return found
