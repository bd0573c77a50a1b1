"""The docs say what the code does."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from PIL import Image

from lowtide.autoscaling.policy.from_settings import policy_of
from lowtide.bridge.messages.endings import INTERNAL_ERROR, REPLY_REFUSED
from lowtide.bridge.messages.reasons import IGNORED, REASONS
from lowtide.cli.main import COMMANDS
from lowtide.config import load_settings
from lowtide.tasks import InferenceRequest, InferenceResult, InvalidRequest
from lowtide.tasks.running.losses import WORKER_LOST
from lowtide.tasks.wire.outcome import Timings

ROOT = Path(__file__).resolve().parents[2]
PICTURE_MAX_BYTES = 120_000
PICTURE_MAX_PX = 1000
"""Of its width."""


def schema(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "docs" / "schemas" / f"{name}.json").read_text())


def test_the_settings_page_and_the_schemas_are_what_the_code_says() -> None:
    subprocess.run([sys.executable, ROOT / "docs" / "reference.py", "--check"], check=True)


@pytest.mark.parametrize(
    "request_",
    [
        {"model": "resnet101", "uri": "gs://bucket/cat.jpg"},
        {"model": "digits", "data": "aGk=", "params": {"top_k": 3}, "priority": "high"},
        {"model": "digits", "uri": "gs://b/o", "expires_at": "2026-01-31T12:00:00Z", "reply_topic": "mine"},
    ],
)
def test_what_the_schema_allows_is_a_request(request_: dict[str, Any]) -> None:
    jsonschema.validate(request_, schema("request"))
    InferenceRequest.parse(request_)


@pytest.mark.parametrize("request_", [{}, {"model": 1, "uri": "u"}, {"model": "m", "uri": "u", "priority": "urgent"}])
def test_what_the_schema_refuses_is_none(request_: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(request_, schema("request"))
    with pytest.raises(InvalidRequest):
        InferenceRequest.parse(request_)


def test_a_result_is_what_its_schema_says() -> None:
    result = InferenceResult(
        request_id="a",
        message_id="1",
        model="digits",
        model_version="v",
        status="ok",
        outputs=[{"label": "7", "score": 0.9}],
        error=None,
        attempts=1,
        timings_ms=Timings(),
    )

    jsonschema.validate(json.loads(result.model_dump_json()), schema("result"))


def defined_in(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.ClassDef):
            names |= {node.name, *(f"{node.name}.{inner.name}" for inner in node.body if hasattr(inner, "name"))}
        elif isinstance(node, ast.FunctionDef):
            names.add(node.name)
    return names


def test_every_step_of_the_path_of_one_request_exists() -> None:
    rows = re.findall(r"^\| [^|]+ \| \[[^]]+\]\(([^)]+)\) \| `([\w.]+)`", (ROOT / "README.md").read_text(), re.M)

    assert len(rows) >= 15
    for file, name in rows:
        assert name in defined_in(ROOT / file), f"{file} has no {name}"


def test_every_test_that_is_said_to_back_a_promise_exists_and_no_promise_is_without() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text()
    readme = (ROOT / "README.md").read_text().partition("## What it promises")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([^|]+) \| \[[^]]+\]\(\.\./(tests/[^)]+)\) `(test_\w+)` \|", page, re.M)

    assert {promise for promise, *_ in rows} == set(re.findall(r"^\| ([A-Z][^|]+) \| ", readme, re.M))
    for _, file, name in rows:
        assert name in defined_in(ROOT / file), f"{file} has no {name}"


@pytest.mark.parametrize(
    "page",
    ["README.md", "CONTRIBUTING.md", "SECURITY.md", *sorted(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))],
)
def test_every_link_to_a_file_of_ours_leads_somewhere(page: str) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / page).read_text())

    assert [link for link in links if not ((ROOT / page).parent / link).exists()] == []


def test_pictures_are_small_said_in_words_and_each_is_shown() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    shown = [(page, *found) for page in pages for found in re.findall(r"!\[([^]]*)\]\(([^)]+)\)", page.read_text())]
    pictures = set((ROOT / "docs" / "pictures").iterdir())

    assert all(len(words.split()) >= 5 for _, words, _ in shown)
    assert {(page.parent / path).resolve() for page, _, path in shown} == pictures
    for picture in pictures:
        assert picture.stat().st_size <= PICTURE_MAX_BYTES, picture
        with Image.open(picture) as opened:
            assert opened.width <= PICTURE_MAX_PX, picture


def test_without_a_browser_make_pictures_starts_nothing_and_says_what_is_missing() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "docs.pictures"],
        cwd=ROOT,
        env={**os.environ, "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert run.returncode == 1
    assert re.fullmatch(r"pictures: there is none of chromium, .* on the PATH \(apt install chromium\)\n", run.stderr)


def test_every_command_that_the_readme_names_exists() -> None:
    named = set(re.findall(r"`?lowtide (\w+)", (ROOT / "README.md").read_text())) - {"runs"}

    assert named <= set(COMMANDS)


def test_the_contract_lists_every_reason_of_a_dead_letter_and_of_none() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", (ROOT / "docs" / "contract.md").read_text(), re.M)

    assert dict(rows).items() >= REASONS.items() | IGNORED.items()
    assert {REPLY_REFUSED, INTERNAL_ERROR, WORKER_LOST} <= dict(rows).keys()


def test_the_policy_in_terraform_is_the_one_of_the_settings() -> None:
    page = (ROOT / "docs" / "autoscaling.md").read_text().partition("```terraform")[2].partition("```")[0]
    said = {
        key: [json.loads(value) for value in re.findall(rf"^ {{6}}{key} += (.*)$", page, re.MULTILINE)]
        for key in ("name", "filter", "single_instance_assignment")
    }
    signals = policy_of(load_settings(project="my-project")).signals

    assert said == {
        "name": [signal.metric for signal in signals],
        "filter": [signal.filter for signal in signals],
        "single_instance_assignment": [signal.single_instance_assignment for signal in signals],
    }
