"""`naiad check --propose --write`: what is proposed for a model, appended to its config."""

from __future__ import annotations

import os
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path
from typing import TYPE_CHECKING

from naiad.cli.check_proposals import is_chosen, proposals_of, proposals_text
from naiad.cli.check_text import printable
from naiad.config.reader import config_file, parse_model_config
from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from naiad.lifecycle.inspection import ModelReport

_PREFIX = "naiad."
_MODE = 0o666
"""Of a config that is made, before the umask."""


@dataclass(frozen=True, slots=True)
class ProposalTarget:
    """A model's config as it was before the model was looked at; `content` is None if there was none."""

    folder: Path
    variant: str
    path: Path
    content: bytes | None

    @classmethod
    def read(cls, roots: Sequence[Path], model: str, variant: str) -> ProposalTarget:
        """The config of a model.

        Args:
            roots: the model repositories.
            model: its name.
            variant: as of `config_file`.

        Raises:
            InvalidArgumentError: no repository has the model, or its config cannot be read.
        """
        folders = [root / model for root in roots if Path(model).name == model and (root / model).is_dir()]
        if not folders:
            raise InvalidArgumentError(f"--model={printable(model)} is no folder of {_names(roots)}")
        path = config_file(folders[0], variant)
        return cls(folders[0], variant, path, _content(path))

    def append(self, report: ModelReport) -> str:
        """Append what is proposed for the model; returns the change as a diff.

        Raises:
            InvalidArgumentError: there is nothing to declare, or the config has `naiad.` parameters, has
                changed since this was made, or cannot be written. It is left as it is.
        """
        self._check(report)
        old = self.content or b""
        added = b"\n" * bool(old and not old.endswith(b"\n")) + proposals_text([report]).encode()
        self._write(added)
        before, after = (
            text.decode(errors="replace").splitlines(keepends=True) for text in (old, old + added)
        )
        name = printable(str(self.path))
        first = os.devnull if self.content is None else name
        return _closed(unified_diff(before, after, fromfile=first, tofile=name))

    def _check(self, report: ModelReport) -> None:
        proposals = proposals_of(report)
        name = printable(report.name)
        if not proposals:
            problems = [report.problem, *(version.problem for version in report.versions)]
            reason = next((problem.reason for problem in problems if problem), "")
            raise InvalidArgumentError(
                f"nothing is proposed for model '{name}': "
                + (printable(reason) or self._declared() or "it resembles no known family")
            )
        if declared := self._declared():
            raise InvalidArgumentError(f"nothing is written for model '{name}': {declared}")
        if not is_chosen(proposals, proposals[0]):
            raise InvalidArgumentError(
                f"nothing is written for model '{name}': that it is of family {proposals[0].family} is "
                f"{proposals[0].certainty.value}, no more; append what --propose writes and say which"
            )

    def _declared(self) -> str:
        """That the config has parameters of ours, in words; "" if it has none."""
        config = parse_model_config(self.folder, variant=self.variant)
        keys = sorted(key for key in config.parameters if key.startswith(_PREFIX))
        return f"{self.path} has {', '.join(map(printable, keys))} already" if keys else ""

    def _write(self, added: bytes) -> None:
        changed = InvalidArgumentError(f"{self.path} has changed meanwhile: nothing is written to it")
        new = os.O_CREAT | os.O_EXCL if self.content is None else 0
        try:
            with os.fdopen(
                os.open(self.path, os.O_RDWR | os.O_APPEND | new, _MODE), "r+b", buffering=0
            ) as file:
                if file.read() != (self.content or b""):
                    raise changed
                if file.write(added) != len(added):  # the disk is full
                    file.truncate(len(self.content or b""))
                    raise InvalidArgumentError(f"cannot write {self.path}: there is no room")
        except (FileExistsError, FileNotFoundError):
            raise changed from None
        except OSError as error:
            raise InvalidArgumentError(f"cannot write {self.path}: {error.strerror}") from None


def _content(path: Path) -> bytes | None:
    if not os.path.lexists(path):
        return None
    if not path.is_file():  # a pipe would be waited for
        raise InvalidArgumentError(f"cannot read {path}: it is not a file")
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidArgumentError(f"cannot read {path}: {error.strerror}") from None


def _names(roots: Sequence[Path]) -> str:
    return ", ".join(printable(str(root)) for root in roots)


def _closed(lines: Iterable[str]) -> str:
    """A diff's lines as one text; a line that had no end gets one, and the mark that says so."""
    return "".join(
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines
    )
