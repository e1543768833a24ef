"""What the two blocks of a layer are called, and their colours."""

from schemas.names import Block
from workers.figures.colours import KINDS

NAMES = {Block.MIXER: "mixer", Block.MLP: "MLP"}
COLOURS = {Block.MIXER: KINDS[0], Block.MLP: KINDS[1]}
