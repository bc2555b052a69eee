"""`naiad explain` as its user meets it: words, JSON, exit codes; a live server is asked in the integration tests."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from rich.console import Console
from support.onnx_models import add_sub
from support.repositories import ADD_SUB_CONFIG, add_model
from typer.testing import CliRunner, Result

from naiad.cli.check_text import plain_block, render_block
from naiad.cli.explain_live import LiveModel, LiveVersion, ReasonFigures, SizeFigures
from naiad.cli.explain_text import live_block
from naiad.cli.main import app
from naiad.config.model_config import DynamicBatching, ModelConfig
from naiad.core.errors import InvalidArgumentError, NotFoundError, UnavailableError
from naiad.scheduling.explain import MEANINGS, explain_scheduling

if TYPE_CHECKING:
    from pathlib import Path

BATCHING = "dynamic_batching { preferred_batch_size: [ 4 ] max_queue_delay_microseconds: 500 }"
GROUPS = """
instance_group [ { kind: KIND_CPU count: 2 }, { kind: KIND_CPU count: 1 name: "spare" passive: true } ]
"""


def explain(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["explain", *map(str, arguments)])


def words(result: Result) -> str:
    return " ".join(result.stdout.split())


def test_a_model_is_explained_in_plain_words_for_a_pipe(tmp_path: Path) -> None:
    add_model(tmp_path, "m", add_sub(), ADD_SUB_CONFIG + BATCHING + GROUPS)
    result = explain("m", f"--model-repository={tmp_path}", "--cpu-threads", 2, "--max-queue-size", 77)
    text = words(result)
    assert result.exit_code == 0
    assert "m, version 1: ok" in text
    assert "inputs INPUT0 INT32 [batch, 16]" in text
    assert "scheduler dynamic batcher" in text
    assert "sizes up to 8; one of 4 is sent as soon as it is reached" in text
    assert "delay up to 500 µs from the oldest request's coming" in text
    assert "at most 77 (--max-queue-size) requests wait for the version" in text
    assert f"delay: {MEANINGS['delay']}" in text
    assert "each m_0_0 on CPUExecutionProvider m_0_1 on CPUExecutionProvider runs on" in text
    assert "1 on the CPU, passive: they take no requests" in text
    assert "why there instance_group says KIND_CPU" in text
    assert "\x1b" not in result.stdout


def test_json_holds_the_plan(tmp_path: Path) -> None:
    add_model(tmp_path, "m", add_sub(), ADD_SUB_CONFIG)
    report = json.loads(explain("m", f"--model-repository={tmp_path}", "--json").stdout)
    (version,) = report["versions"]
    assert (report["format"], report["source"], report["name"], report["ok"]) == (1, "repository", "m", True)
    assert [each["name"] for each in version["plan"]["scheduling"]["reasons"]] == ["lone"]


def test_a_broken_model_exits_1_with_what_to_do(tmp_path: Path) -> None:
    add_model(tmp_path, "m", b"not a model", ADD_SUB_CONFIG)
    result = explain("m", f"--model-repository={tmp_path}")
    assert result.exit_code == 1
    assert "m, version 1: BROKEN" in result.stdout
    assert "what to do" in result.stdout


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    result = explain("nope", f"--model-repository={tmp_path}")
    assert isinstance(result.exception, NotFoundError)
    assert str(result.exception) == f"there is no model 'nope' in {tmp_path}"


def test_it_must_be_told_where_the_model_is() -> None:
    result = explain("m")
    assert isinstance(result.exception, InvalidArgumentError)
    assert "--model-repository=DIR or --url=HOST:PORT" in str(result.exception)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000", "https://127.0.0.1:8000"])
def test_a_url_of_another_protocol_is_refused_by_name(url: str) -> None:
    result = explain("m", f"--url={url}")
    assert result.exit_code == 1
    assert (
        str(result.exception) == f"--url={url} should be HOST:PORT or grpc://HOST:PORT, of the gRPC service"
    )


def test_a_server_that_does_not_answer_is_named() -> None:
    result = explain("m", "--url=grpc://127.0.0.1:1")
    assert isinstance(result.exception, UnavailableError)
    assert str(result.exception).startswith("the server at 127.0.0.1:1 does not answer")


def test_live_figures_in_words_for_a_pipe_and_a_table_for_a_terminal() -> None:
    version = LiveVersion(
        version=3,
        requests=10,
        failures=1,
        batch_items=20,
        runs=4,
        queue_us=120.0,
        compute_us=900.4,
        items_per_run=5.0,
        sizes=(SizeFigures(4, 3, 0.75, 800.0), SizeFigures(8, 1, 0.25, 1200.0)),
        reasons=(ReasonFigures("preferred", 4, 1.0, MEANINGS["preferred"]),),
        execution_providers=("CUDAExecutionProvider", "CPUExecutionProvider"),
        fallbacks=(),
        instances=("m_0: 1 on GPU 0",),
        scheduling=explain_scheduling(ModelConfig("m", 8, (), (), dynamic_batching=DynamicBatching((4,)))),
    )
    block = live_block(LiveModel("m", "host:8001", (version,)), version)
    text = " ".join("\n".join(plain_block(block)).split())
    assert "m, version 3, at host:8001: ok" in text
    assert "runs 4, 5.00 batch items each" in text
    assert "waits 120 µs and is computed in 900 µs, on average" in text
    assert "4: 3 runs (75%), 800 µs each 8: 1 runs (25%), 1200 µs each" in text
    assert "preferred: 4 runs (100%), a preferred batch size was reached" in text
    console = Console(force_terminal=True, width=80, record=True)
    with console.capture() as captured:
        console.print(render_block(block))
    assert "\x1b[" in captured.get()
