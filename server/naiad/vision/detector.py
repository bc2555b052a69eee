"""What happens before and after one detection model: its pre-processing and its head. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from naiad.vision.heads import make_head
from naiad.vision.preprocess import Preprocessor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from naiad.config.model_config import TensorConfig
    from naiad.config.vision_config import VisionConfig


class Detector:
    """The pre-processor and the head of one model. Safe to call from several threads at once."""

    def __init__(
        self, config: VisionConfig, inputs: Sequence[TensorConfig], outputs: Sequence[TensorConfig]
    ) -> None:
        """Check the config against the model.

        Raises:
            InvalidArgumentError: not a detector, or inputs or outputs that the config does not suit.
        """
        self.head = make_head(config, inputs, outputs)
        self.preprocessor = Preprocessor.for_inputs(config.input, inputs, multiple=self.head.input_multiple)

    @property
    def output_names(self) -> tuple[str, ...]:
        """The outputs that the head reads."""
        return self.head.output_names
