"""Coverage-guided fuzzing of `config.pbtxt` and of the config that a load request brings along."""

from __future__ import annotations

import sys
from pathlib import Path

import atheris
from fuzz.config_strategies import SEEDS

with atheris.instrument_imports(include=["naiad"]):
    from naiad.config.messages import parse_text
    from naiad.config.reader import check_loadable, config_from_message, parse_config_override
    from naiad.core.errors import NaiadError

FOLDER = Path("repository") / "m"


def one_input(data: bytes) -> None:
    """The first byte tells a file's text, put behind a sound one or not, from JSON; only domain errors may leave."""
    kind, text = data[:1], data[1:].decode("utf-8", "replace")
    try:
        if kind < b"\x40":
            check_loadable(parse_config_override(text, FOLDER))
        else:
            sound = SEEDS[kind[0] % len(SEEDS)] if kind >= b"\xa0" else ""
            check_loadable(config_from_message(parse_text(f"{sound}\n{text}", "here"), FOLDER))
    except NaiadError:
        pass


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
