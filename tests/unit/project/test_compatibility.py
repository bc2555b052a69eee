"""docs/compatibility.md says what the code does, and misses nothing of Triton."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from support.compatibility import HOW_TO_REGENERATE, PAGE, compatibility_page
from support.differences import DIFFERENCES
from support.triton_flags import DEFAULTS
from tritonclient.grpc import service_pb2, service_pb2_grpc

from naiad.config.command_line import FIELDS_BY_FLAG
from naiad.config.refused_flags import OTHER_FLAGS, OTHER_FLAGS_BY_NAME, FlagState
from naiad.config.server_config import ServerConfig, default_text
from naiad.config.settings.backend_config import (
    DEFAULT_MAX_BATCH_SIZE,
    WITHOUT_EFFECT,
    parse_backend_config,
)
from naiad.services.inference import InferenceService
from naiad.services.support import HTTP_ENDPOINTS, RPCS, CallState

if TYPE_CHECKING:
    from naiad.config.refused_flags import OtherFlag
    from naiad.services.support import CallSupport

NAIADS_OWN_DEFAULT = {"--log-format"}
"""Flags of Triton whose default differs here; each is a row of the deliberate differences."""


def test_the_page_is_the_one_that_the_code_makes() -> None:
    assert PAGE.read_text(encoding="utf-8") == compatibility_page(), (
        f"docs/compatibility.md: {HOW_TO_REGENERATE}"
    )


def test_every_rpc_of_tritons_service_has_one_row() -> None:
    service = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    assert sorted(row.name for row in RPCS) == sorted(method.name for method in service.methods)


@pytest.mark.parametrize("row", RPCS, ids=lambda row: row.name)
def test_an_rpc_that_is_told_to_be_served_has_a_method_of_ours(row: CallSupport) -> None:
    """A method that is only inherited answers UNIMPLEMENTED."""
    inherited = getattr(service_pb2_grpc.GRPCInferenceServiceServicer, row.name)
    assert (getattr(InferenceService, row.name) is not inherited) == (row.state is CallState.SERVED)


def test_no_endpoint_is_listed_twice() -> None:
    names = [row.name for row in HTTP_ENDPOINTS]
    assert len(set(names)) == len(names)


def test_every_flag_of_tritonserver_is_a_setting_or_has_a_row_and_never_both() -> None:
    settings, others = set(FIELDS_BY_FLAG), set(OTHER_FLAGS_BY_NAME)
    assert settings & others == set()
    assert set(DEFAULTS) <= settings | others
    assert others <= set(DEFAULTS)
    assert len(OTHER_FLAGS) == len(others)


def test_settings_of_tritons_name_have_tritons_default() -> None:
    differ = {}
    for flag, default in DEFAULTS.items():
        if flag not in FIELDS_BY_FLAG or default is None:
            continue
        ours = default_text(ServerConfig.model_fields[FIELDS_BY_FLAG[flag]]).removesuffix(".0")
        if ours != default.removesuffix(".0"):
            differ[flag] = (ours, default)
    assert set(differ) == NAIADS_OWN_DEFAULT, differ
    assert all(any(flag in row.where for row in DIFFERENCES) for flag in differ)


@pytest.mark.parametrize("row", OTHER_FLAGS, ids=lambda row: row.name)
def test_a_row_says_why_and_its_default_is_tritons(row: OtherFlag) -> None:
    assert row.note
    if row.state is FlagState.RENAMED:
        assert row.renamed in FIELDS_BY_FLAG
    elif row.default is not None:
        assert row.default == DEFAULTS[row.name]
        assert row.is_default(row.default)


@pytest.mark.parametrize("backend", WITHOUT_EFFECT)
def test_every_key_of_backend_config_in_the_page_is_taken_and_another_is_not(backend: str) -> None:
    prefix = f"{backend}," if backend else ""
    for key in (*WITHOUT_EFFECT[backend], DEFAULT_MAX_BATCH_SIZE):
        assert f"| `{key}` | {backend or 'all backends'} |" in compatibility_page()
        parse_backend_config([f"{prefix}{key}=1"])
    with pytest.raises(ValueError, match="unknown key 'no-such-key'"):
        parse_backend_config([f"{prefix}no-such-key=1"])


def test_cells_do_not_break_their_table() -> None:
    """In each table every row has as many cells as its head."""
    for table in re.findall(r"(?:^\|.*\n)+", compatibility_page(), re.MULTILINE):
        cells = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(cells) == 1, table
