"""Facts as tokens, and the probability of an answer against the model's own logits."""

import pytest
import torch

from catalogue.locate import locate
from schemas.sections import Fact
from schemas.settings import Settings
from tests.tiny_models import save_mamba
from workers.experiments.answers import Question, log_probabilities, questions_of
from workers.models.loading import LoadedModel, load
from workers.padding import padded


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    root = tmp_path_factory.mktemp("models")
    save_mamba(root / "model")
    settings = Settings(model_dir=root, device="cpu")
    return load(locate("model", settings), settings)


def test_an_answer_is_read_from_the_prompts_last_token_on(loaded: LoadedModel) -> None:
    fact = Fact(prompt="w4 w5", answer=" w6 w7 w8", paraphrases=["w9"])
    first, second = questions_of(loaded.tokeniser, fact, 3)
    assert first == Question(3, "w4 w5", ids=(5, 6, 7, 8), targets=(7, 8, 9))
    assert first.first == 1
    assert second == Question(3, "w9", ids=(10, 7, 8), targets=(7, 8, 9))
    assert second.first == 0


@pytest.mark.parametrize("answer", ["w6", " "])
def test_an_answer_that_does_not_continue_its_prompt_is_refused(
    loaded: LoadedModel, answer: str
) -> None:
    with pytest.raises(ValueError, match="does not continue"):
        questions_of(loaded.tokeniser, Fact(prompt="w4 w5", answer=answer), 0)


@torch.no_grad()
def test_the_probability_is_the_product_over_the_answers_tokens(loaded: LoadedModel) -> None:
    rows = [
        Question(0, "", ids=(5, 6, 7, 8), targets=(7, 8, 9)),
        Question(1, "", ids=(3,), targets=(4,)),
        Question(2, "", ids=(11, 12), targets=(12, 13)),
    ]
    states = loaded.model.base_model(
        input_ids=padded(row.ids for row in rows), use_cache=False
    ).last_hidden_state
    found = log_probabilities(loaded.readout, states, rows).exp()
    for row, probability in zip(rows, found, strict=True):
        logits = loaded.model(input_ids=torch.tensor([row.ids]), use_cache=False).logits[0]
        each = logits.double().softmax(-1)
        wanted = 1.0
        for step, token in enumerate(row.targets):
            wanted *= float(each[row.first + step, token])
        assert float(probability) == pytest.approx(wanted, rel=1e-5)
