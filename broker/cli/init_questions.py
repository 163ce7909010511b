"""The questions of `scan-login init`, and their answers."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import typer

from broker.infrastructure.fields import is_web_url, parse_origin
from broker.infrastructure.outbound.ssrf import is_loopback
from broker.providers.wechat.settings import APPID_PATTERN

Answers = Mapping[str, str]
"""The answer to each question that applies, by name."""

LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"

HOST_PATTERN = re.compile(rf"(?=.{{1,253}}$){LABEL}(?:\.{LABEL})*")

SECRET_PATTERN = re.compile(r"[!-&(-~]+")
"""Printable ASCII without the quote that ends a value in the settings file."""

APPSECRET_PATTERN = re.compile(r"[0-9a-fA-F]{32}")
"""The form that WeChat's console shows."""

COMPOSE_REDIS_HOST = "redis"

COMPOSE_REDIS = f"redis://{COMPOSE_REDIS_HOST}:6379/0"
"""The service `redis` of the Compose file."""


class InvalidAnswer(ValueError):
    """An answer that cannot be used. The message names the remedy."""


class PretendDeclined(InvalidAnswer):
    """The pretend provider is not confirmed. Another provider is possible."""


def check_host(text: str) -> str:
    host = text.lower().rstrip(".")
    if not HOST_PATTERN.fullmatch(host):
        raise InvalidAnswer("use a host name such as login.example.com, without scheme and port")
    if is_loopback(host) and host not in ("127.0.0.1", "localhost"):
        raise InvalidAnswer(
            "use 127.0.0.1 or localhost for a broker that only this machine reaches"
        )
    return host


def check_appid(text: str) -> str:
    if not re.fullmatch(APPID_PATTERN, text):
        raise InvalidAnswer("use the AppID of a mini program: wx and 16 letters or digits")
    return text


def check_appsecret(text: str) -> str:
    if not APPSECRET_PATTERN.fullmatch(text):
        raise InvalidAnswer("use the AppSecret from WeChat's console: 32 hexadecimal digits")
    return text


def check_secret(text: str) -> str:
    if not SECRET_PATTERN.fullmatch(text):
        raise InvalidAnswer("use printable characters without spaces and quotes")
    return text


def check_redis_url(text: str) -> str:
    try:
        scheme = urlsplit(text).scheme
    except ValueError:
        scheme = ""
    if scheme.partition("+")[0] not in ("redis", "rediss"):
        raise InvalidAnswer("use a URL such as redis://127.0.0.1:6379/0")
    return check_secret(text)


def check_container_redis_url(text: str) -> str:
    host = urlsplit(check_redis_url(text)).hostname or "localhost"
    if host == COMPOSE_REDIS_HOST and text != COMPOSE_REDIS:
        raise InvalidAnswer(
            f"the Redis in the Compose file is {COMPOSE_REDIS}; name another host for your own"
        )
    if is_loopback(host):
        raise InvalidAnswer(
            "a container cannot reach Redis at this machine's loopback: use an address that it "
            f"can reach, or {COMPOSE_REDIS} for a Redis in the Compose file"
        )
    return text


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
    word = text.lower()
    if word in ("n", "no"):
        raise PretendDeclined(
            "with the pretend provider anyone can log in as anyone, and others reach this host: "
            "answer provider with wechat, or confirm pretend for a trial with yes"
        )
    if word not in ("y", "yes"):
        raise InvalidAnswer("use yes, or no for another provider")
    return "yes"


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


PROVIDER = Question(
    "provider",
    "Provider: wechat, or pretend for a trial",
    one_of("pretend", "wechat"),
    lambda answers: "wechat" if is_public(answers) else "pretend",
)

CONFIRM_PRETEND = Question(
    "confirm_pretend",
    "Anyone can log in as anyone with pretend. Use it anyway (yes or no)",
    check_confirmation,
    applies=lambda answers: answers["provider"] == "pretend" and is_public(answers),
)

QUESTIONS: Sequence[Question] = (
    Question("host", "Host name of the broker", check_host),
    PROVIDER,
    CONFIRM_PRETEND,
    Question(
        "wechat_appid",
        "AppID of the mini program",
        check_appid,
        applies=lambda answers: answers["provider"] == "wechat",
    ),
    Question(
        "wechat_secret",
        "AppSecret of the mini program",
        check_appsecret,
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
        "redis_url",
        "URL of Redis for the container; the default adds a Redis to the Compose file",
        check_container_redis_url,
        always(COMPOSE_REDIS),
        lambda answers: answers["state"] == "redis" and answers["run_by"] == "compose",
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
    remaining = list(QUESTIONS)
    while remaining:
        question = remaining.pop(0)
        if not question.applies(answers):
            continue
        try:
            answers[question.name] = _ask(question, answers)
        except PretendDeclined:
            remaining = [PROVIDER, CONFIRM_PRETEND, *remaining]
    return answers


def _ask(question: Question, answers: Answers) -> str:
    """Ask until the answer is valid. Raises PretendDeclined."""
    default = question.default(answers)
    while True:
        text = typer.prompt(
            question.text,
            default=default or "",  # without a default, typer repeats the question silently
            show_default=default is not None,
            hide_input=question.is_secret,
        )
        try:
            return question.check(text.strip())
        except PretendDeclined:
            raise
        except InvalidAnswer as error:
            typer.echo(f"Error: {error}", err=True)


def read_answers(file: Path) -> Answers:
    """Return the answers of a TOML file. Raises InvalidAnswer that names all mistakes."""
    given = _read(file)
    names = dict.fromkeys(question.name for question in QUESTIONS)
    mistakes = [f"{name}: unknown; use {', '.join(names)}" for name in given.keys() - names.keys()]
    answers: dict[str, str] = {}
    for question in QUESTIONS:
        if mistakes or not question.applies(answers):
            continue
        try:
            answers[question.name] = _answer(question, given, answers)
        except InvalidAnswer as error:
            mistakes.append(f"{question.name}: {error}")
    if not mistakes:
        unused = sorted(given.keys() - answers.keys())
        mistakes = [f"{name}: not used with the other answers; remove it" for name in unused]
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
    if isinstance(value, bool):
        value = "yes" if value else "no"
    if value is None and question.name == "confirm_pretend":
        value = "no"
    if not isinstance(value, str):
        raise InvalidAnswer(f"missing or not text: {question.text}")
    return question.check(value)
