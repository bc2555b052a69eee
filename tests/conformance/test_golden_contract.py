"""Every recorded call to a real Triton, made again: the same status, the same words, the same response.

What differs on purpose is listed in `DIFFERENCES` with its reason, and in docs/compatibility.md.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from support.golden import (
    Answer,
    Replay,
    SharedMemoryObjects,
    comparable,
    comparable_message,
    make_repository,
)
from support.golden_differences import DIFFERENCES, PICKS_AN_INPUT
from support.processes import ServerProcess
from support.stock_clients import Endpoints

if TYPE_CHECKING:
    from collections.abc import Callable

CONTRACT = Path(os.environ.get("NAIAD_TRITON_CONTRACT", Path(__file__).parents[3] / "shared" / "triton"))
RECORDING = CONTRACT / "golden.json"
CASES: list[dict[str, Any]] = json.loads(RECORDING.read_text())["cases"] if RECORDING.is_file() else []

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CASES, reason="no recording of a Triton (set NAIAD_TRITON_CONTRACT)"),
    pytest.mark.timeout(300),  # whichever test comes first makes all the calls
]

LENIENT = ("--strict-readiness=false", "--exit-on-error=false", "--allow-client-shm=true")
MODES = {"explicit": ("--model-control-mode=explicit", "--load-model=*"), "none": ()}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answer]:
    """All answers by the case's name, the calls made in the recorded order on one server for each mode."""
    repository = tmp_path_factory.mktemp("golden") / "repository"
    make_repository(CONTRACT / "golden_repository", repository)
    found: dict[str, Answer] = {}
    for mode, flags in MODES.items():
        with (
            SharedMemoryObjects(),
            ServerProcess(repository, *LENIENT, *flags) as server,
            grpc.insecure_channel((endpoints := Endpoints.of(server)).grpc) as channel,
        ):
            replay = Replay(channel, endpoints.at_work)
            if mode == "explicit":
                _warm_statistics(replay)
            for case in CASES:
                if case["server_mode"] == mode:
                    answer = found[case["name"]] = replay.case(case)
                    answer.message = comparable_message(answer.message, repository)
                    answer.response = _without_path(answer.response, repository)
    return found


def _warm_statistics(replay: Replay) -> None:
    """The requests that the first recorded statistics count: three of batch 1, one of 4, one refused of 9."""
    for batch in (1, 1, 1, 4, 9):
        tensor = {"datatype": "INT32", "shape": [batch, 16], "contents": {"int_contents": [1] * 16 * batch}}
        inputs = [{"name": name} | tensor for name in ("INPUT0", "INPUT1")]
        replay.call("ModelInfer", {"model_name": "simple", "inputs": inputs})


def _without_path(response: Any, repository: Path) -> Any:
    return json.loads(json.dumps(response).replace(str(repository), "<repository>"))


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_a_recorded_call_answers_the_same(case: dict[str, Any], answers: dict[str, Answer]) -> None:
    answer = answers[case["name"]]
    difference = DIFFERENCES.get(case["name"])
    if difference is not None:
        assert (answer.code, answer.message) == (difference.code, difference.message), difference.row.why
        assert difference.response is None or answer.response == difference.response
        return
    expected_message = comparable_message(case["message"], Path("<repository>"))
    if case["name"] in PICKS_AN_INPUT:
        answer.message = answer.message.replace("'INPUT0'", "'INPUT1'")
        expected_message = expected_message.replace("'INPUT0'", "'INPUT1'")
    assert (answer.code, answer.message) == (case["code"], expected_message)
    if "results_in_send_order" in case:
        assert answer.in_send_order == [
            (each["code"], each["message"]) for each in case["results_in_send_order"]
        ]
    if case.get("response") is not None:
        check = COMPARED.get(case["rpc"], _same)
        check(answer.response, case["response"])
    if "responses" in case:
        assert comparable(answer.responses) == comparable(case["responses"])


def _same(answered: Any, recorded: Any) -> None:
    assert comparable(answered) == comparable(recorded)


def _same_but_for_the_version(answered: Any, recorded: Any) -> None:
    assert answered["name"] == recorded["name"]
    assert answered["extensions"] == recorded["extensions"]


def _same_tensors_in_any_order(answered: Any, recorded: Any) -> None:
    """Triton completes inputs and outputs from a hash map; here they have the graph's order."""
    assert comparable(_sorted_tensors(answered)) == comparable(_sorted_tensors(recorded))


def _sorted_tensors(response: dict[str, Any]) -> dict[str, Any]:
    inner: dict[str, Any] = response.get("config", response)
    if inner.get("backend") == "python":  # a graph that takes as long stands in for it
        inner |= {"backend": "onnxruntime", "default_model_filename": "model.onnx"}
        inner["platform"] = "onnxruntime_onnx"
    ordered = {
        key: sorted(value, key=lambda tensor: str(tensor["name"]))
        for key, value in inner.items()
        if key in ("input", "output", "inputs", "outputs")
    }
    return inner | ordered


def _same_entries(answered: Any, recorded: Any) -> None:
    """The index, but for reasons that quote what an engine says."""
    assert [_entry(model) for model in answered["models"]] == [_entry(model) for model in recorded["models"]]


def _entry(model: dict[str, str]) -> dict[str, str]:
    difference = DIFFERENCES.get(f"load, broken model {model['name']}")
    return {key: value for key, value in model.items() if key != "reason" or difference is None}


def _same_but_for_the_format(answered: Any, recorded: Any) -> None:
    """The tests' servers log JSON; what is Triton's default reads `default`."""
    assert answered["settings"].pop("log_format") == {"string_param": "json"}
    assert recorded["settings"].pop("log_format") == {"string_param": "default"}
    assert comparable(answered) == comparable(recorded)


COMPARED: dict[str, Callable[[Any, Any], None]] = {
    "ServerMetadata": _same_but_for_the_version,
    "ModelMetadata": _same_tensors_in_any_order,
    "ModelConfig": _same_tensors_in_any_order,
    "RepositoryIndex": _same_entries,
    "LogSettings": _same_but_for_the_format,
}


def test_a_higher_priority_overtakes(answers: dict[str, Answer]) -> None:
    finished = answers["priorities: level 1 overtakes"].finished_order
    assert finished[0] == 0, "the first one ran at once"
    assert finished[1] == 3, "level 1 came last and ran next"


def test_a_request_whose_callers_deadline_passed_did_not_run_or_not_to_its_end(
    answers: dict[str, Answer],
) -> None:
    """Six were sent: one deadline passed while its request waited, one while it ran."""
    name = "model statistics after cancellations and rejections, slow_plain"
    statistics = answers[name].response["model_stats"][0]
    assert statistics["execution_count"] == "4"
    assert statistics["inference_stats"]["fail"]["count"] == "2"


def test_each_difference_belongs_to_a_recorded_case() -> None:
    assert {case["name"] for case in CASES}.issuperset(DIFFERENCES)
