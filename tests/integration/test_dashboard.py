"""docker/'s dashboard and alerts, held against `/metrics` of a server that runs: every name and label is there."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import re
import shutil
import subprocess
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from support.frame_streams import DetectStream
from support.images import DOCKER, load_yaml
from support.onnx_models import add_sub
from support.promql import Matcher, grouping_labels, selectors
from support.repositories import ADD_SUB_CONFIG, add_model
from support.servers import address, metrics_address, server
from support.vision_models import DETECTOR_CONFIG, brightness_detector

from naiad.telemetry.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Mapping

DASHBOARD = DOCKER / "grafana/dashboards/naiad.json"
PROMETHEUS_ADDS = {"instance", "job"}
PAGE = DOCKER.parent / "docs/metrics.md"
EXPERIMENT = {"weights": {"1": 50, "2": 50}, "shadow": {"version": 2}, "guard": {}}
NOT_HERE = ("GPU", "looked into", "has a shadow, ")
"""What families are there with that this server need not have: a GPU, and what its process aside finds later."""
CONFIG = ADD_SUB_CONFIG + "\ndynamic_batching {}\nresponse_cache { enable: true }\n"

Labels = dict[str, set[str]]
"""Of a metric: each label and the values it has."""


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Labels]:
    """What a server with a cached model, an experiment and a stream shows, by sample; what it need not have, from the table."""
    folder = tmp_path_factory.mktemp("models")
    add_model(folder, "simple", add_sub(), CONFIG)
    both = {1: brightness_detector(), 2: brightness_detector()}
    detector = add_model(folder, "detector", both, DETECTOR_CONFIG)
    (detector / "experiment.json").write_text(json.dumps(EXPERIMENT))
    found: defaultdict[str, Labels] = defaultdict(dict)
    # Not by a parser of the format, which gives counters another name.
    for name, labels in re.findall(r"^(\w+)(?:{(.*)})? ", asyncio.run(_scrape(folder)), re.MULTILINE):
        for label, value in re.findall(r'(\w+)="([^"]*)"', labels):
            found[name].setdefault(label, set()).add(value)
        found[name] |= {}
    for spec in METRICS:
        if any(text in spec.condition for text in NOT_HERE):
            found[spec.name] |= {label: set() for label in spec.labels}
    return dict(found) | {"up": {}}


async def _scrape(folder: Any) -> str:
    """The text of `/metrics`, after a frame of a stream and a first look at the experiment."""
    settings = {"cache_config": ("local,size=1048576",), "experiment_interval_secs": 0.05}
    async with (
        server(folder, **settings) as running,
        grpc.aio.insecure_channel(address(running)) as channel,
    ):
        stream = await DetectStream(channel).open()
        await stream.send()
        await stream.rest()

        def read() -> str:
            with contextlib.closing(
                http.client.HTTPConnection(metrics_address(running), timeout=10)
            ) as asked:
                asked.request("GET", "/metrics")
                return asked.getresponse().read().decode()

        async with asyncio.timeout(30):
            while "naiad_experiment_verdict" not in (text := await asyncio.to_thread(read)):
                pass
        return text


def targets() -> list[tuple[str, str]]:
    """Expression and legend of every query of the dashboard."""
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    found = [target for panel in panels for target in panel.get("targets", ())]
    return [(target["expr"], target["legendFormat"]) for target in found]


def rules() -> list[Any]:
    """Every alert."""
    (document,) = load_yaml(DOCKER / "prometheus/alerts.yml")
    return [rule for group in document["groups"] for rule in group["rules"]]


def hold(expression: str, metrics: Mapping[str, Labels], shown: set[str]) -> None:
    """AssertionError if the expression, or what is shown of its result, names what no server has."""
    names = [name for name, _ in selectors(expression)]
    assert names, expression
    assert set(names) <= metrics.keys(), expression
    for name, matchers in selectors(expression):
        for label, operator, value in matchers:
            assert label in metrics[name].keys() | PROMETHEUS_ADDS, (label, expression)
            if operator in {"=", "!="} and metrics[name].get(label):
                assert value in metrics[name][label], (value, expression)
    labels = {label for name in names for label in metrics[name]} | PROMETHEUS_ADDS
    assert grouping_labels(expression) <= labels, expression
    # What is grouped has the labels of its groups, and nothing else.
    assert shown <= (grouping_labels(expression) or labels), expression


def test_the_dashboard_asks_for_what_there_is(metrics: Mapping[str, Labels]) -> None:
    found = targets()
    assert len({name for expression, _ in found for name, _ in selectors(expression)}) > 30
    for expression, legend in found:
        plain = expression.replace("$__rate_interval", "1m")
        hold(plain, metrics, set(re.findall(r"{{(\w+)}}", legend)))


def test_every_query_follows_the_choice_of_server_and_model(metrics: Mapping[str, Labels]) -> None:
    """A metric of models is narrowed by both variables, one of the process by its server."""
    for expression, _ in targets():
        for name, matchers in selectors(expression):
            assert Matcher("instance", "=~", "$instance") in matchers, expression
            assert ("model" in metrics[name]) == (Matcher("model", "=~", "$model") in matchers), expression


def test_the_dashboards_variables_list_what_there_is(metrics: Mapping[str, Labels]) -> None:
    text = DASHBOARD.read_text(encoding="utf-8")
    asked = re.findall(r"label_values\((\w+)(?:{[^}]*})?, (\w+)\)", text)
    assert len(asked) >= 2
    assert all(label in metrics[name].keys() | PROMETHEUS_ADDS for name, label in asked)
    declared = {variable["name"] for variable in json.loads(text)["templating"]["list"]}
    assert set(re.findall(r"\$\{?([a-z]\w*)", text)) <= declared


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


def test_alerts_ask_for_what_there_is(metrics: Mapping[str, Labels]) -> None:
    found = rules()
    assert len(found) > 5
    for rule in found:
        said = " ".join(rule["annotations"].values())
        hold(rule["expr"], metrics, set(re.findall(r"\$labels\.(\w+)", said)))
        assert {"page", "ticket"} & {rule["labels"]["severity"]}
        assert rule["for"]


def test_the_page_asks_for_what_there_is(metrics: Mapping[str, Labels]) -> None:
    """Its queries, and the alert that it shows; what is an expression of those names a metric."""
    page = PAGE.read_text(encoding="utf-8")
    rows = page.partition("## Questions and queries")[2].partition("\n## ")[0].replace("\\|", "|")
    queries = [text for text in re.findall(r"`([^`]+)`", rows) if re.search(r"\b(naiad|nv)_", text)]
    assert len(queries) > 12
    for query in queries:
        hold(query, metrics, set())
    yaml = pytest.importorskip("yaml")
    (shown,) = re.findall(r"```yaml\n(groups:.*?)```", page, re.DOTALL)
    for group in yaml.safe_load(shown)["groups"]:
        for rule in group["rules"]:
            said = " ".join(rule["annotations"].values())
            hold(rule["expr"], metrics, set(re.findall(r"\$labels\.(\w+)", said)))


def test_every_alert_is_tried_by_a_rule_test() -> None:
    (document,) = load_yaml(DOCKER / "prometheus/alerts.test.yml")
    fired = {
        test["alertname"]
        for group in document["tests"]
        for test in group["alert_rule_test"]
        if test.get("exp_alerts")
    }
    assert fired == {rule["alert"] for rule in rules()}


@pytest.mark.parametrize(
    "command",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "alerts.yml"),
        ("test", "rules", "alerts.test.yml"),
    ],
)
def test_promtool_agrees(command: tuple[str, ...]) -> None:
    """Where Prometheus' own tool is installed."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed")
    *words, name = command
    result = subprocess.run(
        [program, *words, str(DOCKER / "prometheus" / name)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
