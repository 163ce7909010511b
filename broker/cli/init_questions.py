"""The questions of `scan-login init`, and their answers."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import typer

from broker.infrastructure.fields import is_web_url, parse_origin
from broker.infrastructure.outbound.ssrf import is_loopback

Answers = Mapping[str, str]
"""The answer to each question that applies, by name."""

HOST_PATTERN = re.compile(r"(?=.{1,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.?)+")

SECRET_PATTERN = re.compile(r"[!-&(-~]+")
"""Printable ASCII without the quote that ends a value in the settings file."""


class InvalidAnswer(ValueError):
    """An answer that cannot be used. The message names the remedy."""


def check_host(text: str) -> str:
    host = text.lower().rstrip(".")
    if not HOST_PATTERN.fullmatch(host):
        raise InvalidAnswer("use a host name such as login.example.com, without scheme and port")
    return host


def check_secret(text: str) -> str:
    if not SECRET_PATTERN.fullmatch(text):
        raise InvalidAnswer("use printable characters without spaces and quotes")
    return text


def check_redis_url(text: str) -> str:
    if not text.startswith(("redis://", "rediss://", "redis+", "rediss+")):
        raise InvalidAnswer("use a URL such as redis://127.0.0.1:6379/0")
    return check_secret(text)


def check_webhook(text: str) -> str:
    if not text.startswith("https://") or not is_web_url(text):
        raise InvalidAnswer("use an https URL such as https://shop.example.com/scan-login")
    return check_secret(text)


def check_name(text: str) -> str:
    if not text.isprintable() or "'" in text or not 0 < len(text) <= 64:
        raise InvalidAnswer("use 1 to 64 printable characters without a quote")
    return text


def check_origin(text: str) -> str:
    try:
        return parse_origin(text)
    except ValueError:
        raise InvalidAnswer("use an Origin such as https://shop.example.com") from None


def check_confirmation(text: str) -> str:
    if text != "yes":
        raise InvalidAnswer(
            "with the pretend provider anyone can log in as anyone, and others reach this host: "
            "answer provider with wechat, or confirm pretend for a trial with yes"
        )
    return text


def one_of(*words: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        if text not in words:
            raise InvalidAnswer(f"use {', '.join(words[:-1])} or {words[-1]}")
        return text

    return check


class Question(NamedTuple):
    """applies: whether the earlier answers need this one. default: None if there is none.

    check: returns the answer in its usual form. Raises InvalidAnswer.
    """

    name: str
    text: str
    check: Callable[[str], str]
    default: Callable[[Answers], str | None] = lambda answers: None
    applies: Callable[[Answers], bool] = lambda answers: True
    is_secret: bool = False


def is_public(answers: Answers) -> bool:
    return not is_loopback(answers["host"])


def always(value: str) -> Callable[[Answers], str]:
    return lambda answers: value


QUESTIONS: Sequence[Question] = (
    Question("host", "Host name of the broker", check_host),
    Question(
        "provider",
        "Provider: wechat, or pretend for a trial",
        one_of("pretend", "wechat"),
        lambda answers: "wechat" if is_public(answers) else "pretend",
    ),
    Question(
        "confirm_pretend",
        "Anyone can log in as anyone with pretend. Use it anyway (yes)",
        check_confirmation,
        applies=lambda answers: answers["provider"] == "pretend" and is_public(answers),
    ),
    Question(
        "wechat_appid",
        "AppID of the mini program",
        check_secret,
        applies=lambda answers: answers["provider"] == "wechat",
    ),
    Question(
        "wechat_secret",
        "AppSecret of the mini program",
        check_secret,
        applies=lambda answers: answers["provider"] == "wechat",
        is_secret=True,
    ),
    Question(
        "run_by",
        "Run the broker with: systemd or compose",
        one_of("systemd", "compose"),
        always("systemd"),
    ),
    Question(
        "state",
        "State: memory, or redis to survive restarts",
        one_of("memory", "redis"),
        always("memory"),
    ),
    Question(
        "redis_url",
        "URL of Redis",
        check_redis_url,
        always("redis://127.0.0.1:6379/0"),
        lambda answers: answers["state"] == "redis" and answers["run_by"] == "systemd",
    ),
    Question(
        "users",
        "Users: open (everyone), sql (invited users) or webhook (your site decides)",
        one_of("open", "sql", "webhook"),
        always("open"),
    ),
    Question(
        "webhook_url",
        "URL of the webhook",
        check_webhook,
        applies=lambda answers: answers["users"] == "webhook",
    ),
    Question(
        "proxy",
        "Proxy with TLS: caddy, nginx or none",
        one_of("caddy", "nginx", "none"),
        lambda answers: "caddy" if is_public(answers) else "none",
    ),
    Question("app_name", "Name of the first app, which the phone shows", check_name),
    Question("origin", "Origin of the pages with the login", check_origin),
)
"""In their order."""


def ask_person() -> Answers:
    """Ask on the terminal, and again after a wrong answer."""
    answers: dict[str, str] = {}
    for question in QUESTIONS:
        if question.applies(answers):
            answers[question.name] = typer.prompt(
                question.text,
                default=question.default(answers),
                hide_input=question.is_secret,
                value_proc=_checked(question),
            )
    return answers


def _checked(question: Question) -> Callable[[str], str]:
    def check(text: str) -> str:
        try:
            return question.check(text.strip())
        except InvalidAnswer as error:
            raise typer.BadParameter(str(error)) from None

    return check


def read_answers(file: Path) -> Answers:
    """Return the answers of a TOML file. Raises InvalidAnswer that names all mistakes."""
    given = _read(file)
    names = [question.name for question in QUESTIONS]
    mistakes = [f"{name}: unknown; use {', '.join(names)}" for name in given.keys() - set(names)]
    answers: dict[str, str] = {}
    for question in QUESTIONS:
        if mistakes or not question.applies(answers):
            continue
        try:
            answers[question.name] = _answer(question, given, answers)
        except InvalidAnswer as error:
            mistakes.append(f"{question.name}: {error}")
    if mistakes:
        raise InvalidAnswer("\n".join(f"{file}: {mistake}" for mistake in mistakes))
    return answers


def _read(file: Path) -> Mapping[str, object]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InvalidAnswer(f"{file}: cannot be read: {reason}") from None


def _answer(question: Question, given: Mapping[str, object], answers: Answers) -> str:
    value = given.get(question.name, question.default(answers))
    if value is True:
        value = "yes"
    if value is None and question.name == "confirm_pretend":
        value = "no"
    if not isinstance(value, str):
        raise InvalidAnswer(f"missing or not text: {question.text}")
    return question.check(value)
