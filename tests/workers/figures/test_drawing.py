import gc
import io
import subprocess
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor

import matplotlib
import pytest
from PIL import Image

from schemas.names import Method
from schemas.result import ResultDocument
from tests.workers.figures.documents import Shape, document, draw, figure_names, parts, recall_words
from tests.workers.figures.looking import HOSTILE
from workers.figures import style
from workers.figures.plan import Drawing
from workers.figures.sheet import sheet

pytestmark = pytest.mark.filterwarnings("error")

SMALL = Shape(
    [recall_words(8)], neurons=32, methods=(Method.ROLLOUT, Method.CONTRIBUTION), layers=(1,)
)


@pytest.fixture(scope="module")
def drawn() -> list[Drawing]:
    return list(draw(document(SMALL)))


@pytest.mark.parametrize(
    "shape",
    [
        Shape([recall_words(4), recall_words(3)], neurons=8, methods=(Method.ROLLOUT,)),
        Shape(
            [recall_words(4)],
            models=("pocket/recall-mamba", "gpt2", "org/other"),
            layers=(3,),
            neurons=8,
            methods=(Method.CONTRIBUTION,),
            unavailable=frozenset({"gpt2"}),
        ),
    ],
    ids=["several texts", "several models"],
)
def test_exactly_the_named_files_are_drawn(shape: Shape) -> None:
    made = document(shape)
    names = [drawing.name for drawing in draw(made)]
    assert sorted(names) == sorted(figure_names(made))
    assert len(set(names)) == len(names)


def test_every_drawing_says_what_it_shows(drawn: list[Drawing]) -> None:
    by_name = {drawing.name: drawing.shows for drawing in drawn}
    assert sorted(by_name) == sorted(figure_names(document(SMALL)))
    shown = by_name["attention_neurons_rollout_layer1.png"]
    assert (shown.model, shown.text) == ("pocket/recall-mamba", 0)
    assert (shown.layer, shown.method) == (1, Method.ROLLOUT)
    strip = by_name["tokens_layer1.png"]
    assert (strip.layer, strip.method) == (1, None)
    over = by_name["layers_by_tokens_contribution.png"]
    assert (over.layer, over.method) == (None, Method.CONTRIBUTION)


def test_files_are_png_of_a_printable_size_that_say_where_they_come_from(
    drawn: list[Drawing],
) -> None:
    made = document(SMALL)
    for drawing in drawn:
        with Image.open(io.BytesIO(drawing.png)) as image:
            image.load()
            assert image.format == "PNG"
            assert image.width == style.WIDTH * style.DPI
            assert 400 <= image.height <= 2400
            assert image.info["Job"] == f"job {made.job_id}"
            assert image.info["Software"] == "Mambascope"
            assert "pocket/recall-mamba" in image.info["Title"]
            about = "read at position 7" if drawing.shows.method is Method.ROLLOUT else "explains: "
            assert image.info["Description"].startswith(about)
            assert image.info["dpi"] == pytest.approx((style.DPI, style.DPI), abs=0.01)
            low, high = image.convert("L").getextrema()
            assert low < 80 and high == 255
        assert len(drawing.png) < 1_000_000


def test_a_document_read_back_from_json_gives_the_same_bytes(drawn: list[Drawing]) -> None:
    again = ResultDocument.model_validate_json(document(SMALL).model_dump_json())
    assert list(draw(again)) == drawn


def test_threads_draw_the_same_bytes(drawn: list[Drawing]) -> None:
    hostile = document(Shape([HOSTILE], neurons=64, layers=(0,), methods=(Method.ROLLOUT,)))
    alone = list(draw(hostile))
    with ThreadPoolExecutor(4) as pool:
        documents = [document(SMALL), hostile] * 2
        together = list(pool.map(lambda made: list(draw(made)), documents))
    assert together == [drawn, alone] * 2


def test_nothing_stays_behind() -> None:
    made = document(SMALL)
    before = dict(matplotlib.rcParams)
    page = sheet(parts(made)[0], 1, Method.ROLLOUT)
    page.render()
    drawn = weakref.ref(page)
    del page
    gc.collect()
    assert drawn() is None
    assert dict(matplotlib.rcParams) == before


def test_neither_pyplot_nor_a_model_library_is_imported() -> None:
    code = (
        "import sys, workers.figures; "
        "print(sorted({'torch', 'transformers', 'redis', 'matplotlib.pyplot'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_a_users_matplotlib_settings_do_not_reach_the_figures(
    drawn: list[Drawing],
) -> None:
    theirs = {
        "font.size": 20.0,
        "axes.grid": True,
        "axes.facecolor": "black",
        "text.color": "red",
        "xtick.direction": "in",
        "figure.constrained_layout.use": True,
        "image.cmap": "jet",
        "savefig.bbox": "tight",
        "axes.xmargin": 0.3,
        "xtick.labelsize": 30,
        "lines.linewidth": 9.0,
        "xtick.top": True,
        "patch.linewidth": 5.0,
    }
    with matplotlib.rc_context(theirs):
        assert list(draw(document(SMALL))) == drawn
