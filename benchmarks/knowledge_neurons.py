"""Knowledge neurons of one block against a forward and backward pass of the same prompts."""

from collections.abc import Iterator

import numpy as np

from benchmarks.row import Promise, Row
from benchmarks.shape import WHOLE, shape, text
from benchmarks.timing import Contest, Effort
from catalogue.locate import locate
from schemas.sections import KnowledgeNeuronSection
from workers.experiments.answers import questions_of
from workers.experiments.knowledge_neurons import find_knowledge_neurons
from workers.experiments.paths import Paths
from workers.mixers.sites import sites_of
from workers.models.loading import load

PROMPTS, TOKENS, ROOM = 4, 32, 1 << 30


def rows(quick: bool) -> Iterator[Row]:
    model = shape(quick)
    loaded = load(locate(model.name, model.settings), model.settings)
    prompts = [text(TOKENS + prompt)[prompt:] for prompt in range(PROMPTS)]
    fact = {"prompt": prompts[0], "answer": "x", "paraphrases": prompts[1:]}
    section = KnowledgeNeuronSection.model_validate({"facts": [fact]})
    asked = questions_of(loaded.tokeniser, section.facts[0], 0)
    # The longest way back, through every layer, is what a pass is.
    [lowest] = sites_of(loaded.model, [0])
    whole, ones = Paths(loaded, asked, "last", ROOM), np.ones((PROMPTS, 1))
    for layer in (0, model.layers // 2, model.layers - 1):
        yield Contest(
            what=f"knowledge neurons of layer {layer}, {model.told}, {PROMPTS} prompts of "
            f"{TOKENS} tokens, {section.steps} steps",
            against="a forward and backward pass of the prompts",
            promise=Promise("<=", 25.0),
            promised_at=WHOLE.told if quick else "",
        ).between(
            lambda layer=layer: find_knowledge_neurons(
                loaded, section, [layer], ROOM, lambda share, what: None
            ),
            lambda: whole.integrate(lowest, ones, ones),
            Effort(1, 1.0) if quick else Effort(5, 120.0),
        )
