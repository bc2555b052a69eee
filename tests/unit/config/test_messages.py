"""Parsing: a good config gives its message, anything else one error that says where."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from naiad.config.messages import MAX_CONFIG_BYTES, enum_name, parse_text, read_file
from naiad.core.errors import InvalidArgumentError, NaiadError

if TYPE_CHECKING:
    from pathlib import Path


def test_comments_lists_and_both_ways_to_write_a_block_are_understood() -> None:
    message = parse_text(
        '# a comment\nname: "m"\ninput [{ name: "x" data_type: TYPE_FP32 dims: [3, -1] }]\n'
        'output { name: "y" data_type: TYPE_STRING dims: 1 dims: 2 }',
        "here",
    )
    assert (message.name, list(message.input[0].dims), list(message.output[0].dims)) == ("m", [3, -1], [1, 2])
    assert enum_name(message.output[0], "data_type") == "TYPE_STRING"


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ('name: "m"\nmax_batch_size: eight', "line 2, column 17", "integer: eight"),
        ("no_such_field: 1", "line 1, column 1", "no_such_field"),
        ('input {\n  nome: "x" }', "line 2, column 3", "nome"),
        ("max_batch_size: 99999999999", "line 1, column 17", "99999999999"),
        ("instance_group { kind: KIND_TPU }", "line 1, column 24", "KIND_TPU"),
        ("dynamic_batching {}\nsequence_batching {}", "line 2", "scheduling_choice"),
    ],
)
def test_an_error_names_source_line_column_and_cause(text: str, where: str, what: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        parse_text(text, "models/m/config.pbtxt")
    assert caught.value.message.startswith(f"models/m/config.pbtxt: {where}")
    assert what in caught.value.message


_TOKENS = r"""name input parameters dims key value : { } [ ] , ; < > "m" "\xff" ' -1 1e999 TYPE_FP32 # /
0x7fffffffffffffff"""
_FRAGMENTS = st.lists(st.sampled_from([*_TOKENS.split(), "\n", "\0"]), max_size=30)


@given(text=st.one_of(st.text(max_size=200), _FRAGMENTS.map(" ".join)))
def test_any_text_at_all_gives_a_message_or_a_domain_error(text: str) -> None:
    try:
        outcome = parse_text(text, "here").DESCRIPTOR.full_name
    except NaiadError as error:
        outcome = error.message
    assert outcome.startswith(("inference.ModelConfig", "here: "))


def test_a_missing_file_is_an_empty_config_only_where_that_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "config.pbtxt"
    assert read_file(path, missing_ok=True).ByteSize() == 0
    with pytest.raises(InvalidArgumentError, match=r"config\.pbtxt: No such file"):
        read_file(path, missing_ok=False)


def test_a_dangling_symlink_is_not_mistaken_for_no_config(tmp_path: Path) -> None:
    path = tmp_path / "config.pbtxt"
    path.symlink_to(tmp_path / "gone")
    with pytest.raises(InvalidArgumentError, match="No such file"):
        read_file(path, missing_ok=True)


def test_a_folder_in_the_files_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="is not a regular file"):
        read_file(tmp_path, missing_ok=True)


def test_bytes_that_are_not_utf8_are_refused_with_their_place(tmp_path: Path) -> None:
    path = tmp_path / "config.pbtxt"
    path.write_bytes(b'name: "\xff"')
    with pytest.raises(InvalidArgumentError, match="not UTF-8 text: byte 7"):
        read_file(path, missing_ok=True)


def test_a_file_over_the_limit_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "config.pbtxt"
    with path.open("wb") as file:
        file.truncate(MAX_CONFIG_BYTES + 1)
    with pytest.raises(InvalidArgumentError, match=f"{MAX_CONFIG_BYTES + 1} bytes.* {MAX_CONFIG_BYTES}"):
        read_file(path, missing_ok=True)


def test_a_pipe_in_place_of_the_config_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.pbtxt")
    with pytest.raises(InvalidArgumentError, match="not a regular file"):
        read_file(tmp_path / "config.pbtxt", missing_ok=True)
