import io

import numpy as np
import pytest
from PIL import Image

from workers.figures import png


@pytest.mark.parametrize("shape", [(1, 1, 3), (7, 5, 4), (64, 33, 3)])
def test_another_decoder_reads_the_same_pixels_and_texts(shape: tuple[int, int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    data = png.encode(pixels, 200, {"Title": "rollout · 10⁻² “river”", "Software": "ours"})
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        assert image.mode == "RGB"
        assert (np.asarray(image) == pixels[..., :3]).all()
        assert image.info["Title"] == "rollout · 10⁻² “river”"
        assert image.info["Software"] == "ours"
        assert image.info["dpi"] == pytest.approx((200, 200), abs=0.01)
    with Image.open(io.BytesIO(data)) as image:
        image.verify()
