"""Restricted protocols: the rules, whom they let through, and that no method is without a category."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf import descriptor_pool
from support.grpc_front import register_echo

from naiad.core.errors import InvalidArgumentError
from naiad.services.grpc_restrictions import METHOD_CATEGORIES
from naiad.services.grpc_settings import GrpcSettings
from naiad.services.restricted import Category, Restriction, parse_restrictions

if TYPE_CHECKING:
    import grpc

FLAG = "--grpc-restricted-protocol"


def test_rules_name_categories_a_header_and_its_value() -> None:
    rules = parse_restrictions(["health,model-config:Admin-Key=a=b:c", "trace:k=v"], flag=FLAG)
    assert rules == {
        "health": ("Admin-Key", "a=b:c"),
        "model-config": ("Admin-Key", "a=b:c"),
        "trace": ("k", "v"),
    }
    assert parse_restrictions([], flag=FLAG) == {}


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        # The first two are texts that Triton's own scripts look for.
        (
            ["model-repository,health:k1=v1", "metadata,health:k2=v2"],
            f"{FLAG} 'metadata,health:k2=…': restricted protocol 'health' can not be specified in multiple config groups",
        ),
        (
            ["model-reposit:k=v"],
            f"{FLAG} 'model-reposit:k=…': unknown restricted protocol 'model-reposit'; known: health, metadata, "
            "inference, shared-memory, model-config, model-repository, statistics, trace, logging",
        ),
        (
            ["trace,trace:k=v"],
            f"{FLAG} 'trace,trace:k=…': restricted protocol 'trace' can not be specified in multiple config groups",
        ),
        (["health"], f"{FLAG} 'health': the format is CATEGORY[,CATEGORY]:KEY=VALUE"),
        (["health:k"], f"{FLAG} 'health:…': the format is CATEGORY[,CATEGORY]:KEY=VALUE"),
        ([":k=v"], f"{FLAG} ':k=…': the format is CATEGORY[,CATEGORY]:KEY=VALUE"),
        ([""], f"{FLAG} '': the format is CATEGORY[,CATEGORY]:KEY=VALUE"),
        (["health:=v"], f"{FLAG} 'health:=…': key '' must be letters, digits, '-', '_' and '.'"),
        (["health:a b=v"], f"{FLAG} 'health:a b=…': key 'a b' must be letters, digits, '-', '_' and '.'"),
        *(
            (
                [f"health:k={value}"],
                f"{FLAG} 'health:k=…': the value must be printable ASCII, not empty, with no blank at either end",
            )
            for value in ("", " v", "v ", "é", "a\nb")
        ),
    ],
)
def test_a_wrong_rule_is_told_by_flag_and_text_without_its_secret(texts: list[str], said: str) -> None:
    with pytest.raises(InvalidArgumentError) as raised:
        parse_restrictions(texts, flag=FLAG)
    assert raised.value.message == said


def test_http_calls_them_apis() -> None:
    with pytest.raises(InvalidArgumentError, match="unknown restricted api 'x'"):
        parse_restrictions(["x:k=v"], flag="--http-restricted-api")


@pytest.mark.parametrize(
    ("offered", "accepted"),
    [
        ("secret", True),
        (b"secret", True),
        ("Secret", False),
        ("secret ", False),
        ("secre", False),
        ("", False),
        ("sécret", False),
        ("\ud800", False),
        (b"\xff", False),
    ],
)
def test_only_the_exact_value_is_accepted(offered: str | bytes, accepted: bool) -> None:
    assert Restriction("k", "secret").accepts(offered) is accepted


def test_a_secret_does_not_show_in_what_is_logged() -> None:
    rules = parse_restrictions(["health:key=hunter2"], flag=FLAG)
    assert "hunter2" not in repr(GrpcSettings(restrictions=rules))
    assert "key" in repr(rules)


class Recorder:
    """Notes what is registered, where gRPC's server would serve it."""

    def __init__(self) -> None:
        self.paths: set[str] = set()
        self.services: set[str] = set()

    def add_generic_rpc_handlers(self, handlers: tuple[grpc.ServiceRpcHandler[Any, Any], ...]) -> None:
        self.services |= {handler.service_name() for handler in handlers}
        for service in self.services:
            methods = descriptor_pool.Default().FindServiceByName(service).methods
            self.paths |= {f"/{service}/{method.name}" for method in methods}


def test_every_registered_method_has_a_category_and_no_category_is_for_nothing() -> None:
    """A method that is added to a service without one fails here; at run time it would be refused."""
    recorder = Recorder()
    register_echo(recorder)
    assert recorder.paths == set(METHOD_CATEGORIES)
    assert {path.split("/")[1] for path in recorder.paths} == recorder.services
    assert set(METHOD_CATEGORIES.values()) == set(Category)
