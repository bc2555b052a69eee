"""The versions that the process aside is to have open, remembered for when it is started anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from naiad.core.errors import InternalError

if TYPE_CHECKING:
    from naiad.config.model_config import ModelConfig
    from naiad.core.tensors import ModelKey
    from naiad.lifecycle.experiments.aside.jobs import KeepWorst
    from naiad.lifecycle.experiments.aside.settings import AsideSettings
    from naiad.lifecycle.experiments.aside.wire import Message
    from naiad.repository.layout import ModelFolder


@dataclass(frozen=True, slots=True, eq=False)
class VersionAside:
    """A version to be opened: to be run, from its `folder`, or only to be read, where that is None.

    `config` is complete where it is only to be read. Each object is one wish to open it.
    """

    key: ModelKey
    config: ModelConfig
    folder: ModelFolder | None = None
    keep: KeepWorst | None = None
    same_space: bool = True

    def message(self, settings: AsideSettings) -> Message:
        """What the process aside is told; the config goes another way."""
        told: Message = {"key": list(self.key), "do": "read", "folder": str(self.config.folder or "")}
        if self.folder is not None:
            told |= {
                "do": "open",
                "folder": str(self.folder.path),
                "versions": self.folder.versions[-1:],
                "auto_complete": settings.auto_complete,
                "default_max_batch_size": settings.default_max_batch_size,
                "same_space": self.same_space,
                "keep": None if self.keep is None else [str(self.keep.folder), *self.keep[1:]],
            }
        return told

    def config_bytes(self) -> bytes:
        """The config's message as it travels.

        Raises:
            InternalError: it has none, which only a config that was made by hand has not.
        """
        if self.config.message is None:
            raise InternalError(f"the config of model '{self.key.name}' has no message")
        data: bytes = self.config.message.SerializeToString()
        return data


@dataclass(slots=True)
class Standing:
    """How a version does. `refusal` says why it is not asked any more, `kills` counts crashes in a row."""

    wish: VersionAside
    is_open: bool = False
    refusal: str = ""
    kills: int = 0

    @property
    def is_candidate(self) -> bool:
        """Whether it is run, so that what goes wrong is its own fault."""
        return self.wish.folder is not None
