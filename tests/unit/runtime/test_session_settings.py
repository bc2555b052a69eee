"""Session parameters are read in Triton's meaning and order."""

from __future__ import annotations

import pytest
from support.runtime import config

from naiad.core.errors import InvalidArgumentError
from naiad.runtime.session_settings import SessionSettings, read_session_settings


def test_an_empty_config_leaves_everything_to_the_server() -> None:
    assert read_session_settings(config()) == SessionSettings()


@pytest.mark.parametrize(
    ("level", "name"),
    [
        (-1, "ORT_ENABLE_BASIC"),
        (1, "ORT_ENABLE_EXTENDED"),
        (2, "ORT_DISABLE_ALL"),
        (0, "ORT_ENABLE_ALL"),
        (3, "ORT_ENABLE_ALL"),
        (None, "ORT_ENABLE_ALL"),
    ],
)
def test_graph_level_has_tritons_order(level: int | None, name: str) -> None:
    assert read_session_settings(config(graph_level=level)).optimization == name


def test_all_parameters() -> None:
    settings = read_session_settings(
        config(
            parameters={
                "execution_mode": "1",
                "intra_op_thread_count": "3",
                "inter_op_thread_count": "2",
                "enable_mem_arena": "0",
                "enable_mem_pattern": "False",
                "memory.enable_memory_arena_shrinkage": "cpu:0",
                "session.set_denormal_as_zero": "1",
            }
        )
    )
    assert settings == SessionSettings(
        parallel=True,
        intra_op_threads=3,
        inter_op_threads=2,
        memory_arena=False,
        memory_pattern=False,
        entries={"session.set_denormal_as_zero": "1"},
        arena_shrinkage="cpu:0",
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("execution_mode", "2"),
        ("intra_op_thread_count", "0"),
        ("inter_op_thread_count", "many"),
        ("enable_mem_arena", "yes"),
        ("enable_mem_pattern", ""),
    ],
)
def test_a_wrong_value_is_refused_by_key_and_value(key: str, value: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"'{key}' is '{value}'"):
        read_session_settings(config(parameters={key: value}))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("session.set_denormal_as_zero", "yes"),
        ("session.dynamic_block_base", "-1"),
        ("session.intra_op.spin_duration_us", "1e6"),
        ("session.x64quantprecision", ""),
    ],
)
def test_a_session_key_of_the_engine_has_the_engines_values(key: str, value: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"'{key}' is '{value}', expected"):
        read_session_settings(config(parameters={key: value}))


def test_session_keys_that_reach_files_are_not_honoured() -> None:
    """The config's warnings say so."""
    key = "session.model_external_initializers_file_folder_path"
    assert read_session_settings(config(parameters={key: "/etc"})).entries == {}
