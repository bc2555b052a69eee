"""perf_analyzer as a client: its command lines, its CSV and its words for failure."""

from __future__ import annotations

import pytest
from bench.cases import Case
from bench.loads import Load
from bench.perf_client import PerfError, TooShortError, arguments, parse

TABLE = """\
Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,Server Compute Input,Server Compute Infer,Server Compute Output,Client Recv,p50 latency,p90 latency,p95 latency,p99 latency
8,990.139,5,7786,181,5,66,14,2,7921,10258,12648,14359
"""
DELAYED = "[WARNING] Perf Analyzer was not able to keep up with the desired request rate. 1.04% of the requests were delayed."


def case(**changes: object) -> Case:
    values: dict[str, object] = {
        "key": "k",
        "name": "n",
        "model": "m",
        "path": "p",
        "inputs": {"x": ("float32", (1, 3, 8)), "y": ("int64", (1,))},
        "data": "/data/k",
        "max_batch": 4,
    }
    return Case(**(values | changes))  # type: ignore[arg-type]  # as the caller says


def test_a_row_is_read() -> None:
    figures = parse(TABLE, "", client_cpu_us=5.0)
    assert figures.requests_per_s == 990.139
    assert (figures.p50_us, figures.p90_us, figures.p95_us, figures.p99_us) == (7921, 10258, 12648, 14359)
    assert figures.parts_us["queue_us"] == 181
    assert figures.parts_us["compute_infer_us"] == 66
    assert (figures.client_cpu_us, figures.delayed) == (5.0, 0.0)


def test_a_server_without_statistics_has_no_parts_of_its_own() -> None:
    """Such a table lacks the server's columns; the client's are there."""
    figures = parse(
        "Concurrency,Inferences/Second,Client Send,p50 latency,p90 latency,p95 latency,p99 latency\n1,10,5,1,2,3,4\n",
        "",
    )
    assert dict(figures.parts_us) == {"client_send_us": 5}


def test_requests_that_were_sent_late_are_told() -> None:
    assert parse(TABLE, DELAYED).delayed == pytest.approx(0.0104)


@pytest.mark.parametrize(
    ("output", "kind", "words"),
    [
        ("start\nerror: failed to get model metadata\nbye\n", PerfError, "failed to get model metadata"),
        (
            "No valid requests recorded. Please use a larger time window.\n",
            TooShortError,
            "larger time window",
        ),
        ("", PerfError, "no output"),
    ],
)
def test_a_run_without_figures_says_why_in_one_line(output: str, kind: type[PerfError], words: str) -> None:
    with pytest.raises(kind, match=words) as caught:
        parse(TABLE.splitlines()[0], output)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)


def test_a_closed_loop() -> None:
    options = arguments(case(), Load("perf_analyzer", in_flight=8), "host:1", 3.0, 0)
    assert "--concurrency-range=8" in options
    assert options[options.index("-p") + 1] == "1000"  # three windows are merged
    assert [options[index + 1] for index, option in enumerate(options) if option == "--shape"] == [
        "x:3,8",
        "y:1",
    ]
    assert options[options.index("--input-data") + 1] == "/data/k"


def test_without_batches_the_whole_shape_is_said() -> None:
    options = arguments(case(max_batch=0), Load("perf_analyzer", in_flight=1), "host:1", 1.0, 0)
    assert "x:1,3,8" in options


def test_an_open_loop() -> None:
    options = arguments(case(), Load("perf_analyzer", share=0.8, rate=123.456), "host:1", 1.0, 0)
    assert {"--request-rate-range=123.5", "--request-distribution=poisson", "--async"} <= set(options)
    assert not any(option.startswith("--concurrency") for option in options)


def test_wires() -> None:
    load = Load("perf_analyzer", in_flight=1)
    assert {"--streaming", "--async"} <= set(arguments(case(wire="stream"), load, "host:1", 1.0, 0))
    shared = arguments(case(wire="shared memory"), load, "host:1", 1.0, 4096)
    assert {"--shared-memory=system", "--output-shared-memory-size=4096"} <= set(shared)
