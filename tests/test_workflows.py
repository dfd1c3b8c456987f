# SPDX-License-Identifier: GPL-3.0-or-later
"""Workflows, .ci/run and the pages on contributing name commands, groups, extras,
markers and files that exist."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PAGES = [ROOT / name for name in ("CONTRIBUTING.md", "docs/releasing.md", "changes/README.md")]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

pytestmark = pytest.mark.skipif(
    not WORKFLOWS, reason="the source distribution has no workflows; the repository has"
)

#: Commands that are no package's, with their subcommands where we use some.
TOOLS = {
    "bash": None,
    "cd": None,
    "git": {"clone", "tag", "push", "grep"},
    "uv": {"run", "sync", "venv", "pip", "build", "publish"},
    "pip": {"install"},
    "python": None,
    "test": None,
    "echo": None,
}
#: The package, as the dependency groups name it, of each command that `uv run` starts.
PACKAGE_OF = {
    "mypy": "mypy",
    "pre-commit": "pre-commit",
    "pytest": "pytest",
    "ruff": "ruff",
    "sphinx-build": "sphinx",
    "towncrier": "towncrier",
}
#: Options of uv and of pytest that take a value.
VALUED = {"--group", "--with", "--python", "--resolution", "--trusted-publishing"}
#: Made by the commands themselves, or somewhere else on purpose.
MADE = re.compile(r"^(docs/_build|dist|docs/api/generated|/tmp)\b|^\$|^https?:|^git\+|<|[*$]")


def shell_lines(text: str) -> list[str]:
    """Return the commands of a script: lines that end in a backslash are joined,
    && and | separate."""
    lines = text.replace("\\\n", " ").split("\n")
    commands = [part for line in lines for part in re.split(r"\s&&\s|\s\|\|?\s", line)]
    return [command.strip() for command in commands if command.strip()]


def commands_of(path: Path) -> list[str]:
    """Return the commands in a workflow's steps, a shell script,
    or the indented lines of a page."""
    text = path.read_text()
    if path.suffix == ".yml":
        jobs = yaml.safe_load(text)["jobs"].values()
        runs = [step["run"] for job in jobs for step in job["steps"] if "run" in step]
        return [command for run in runs for command in shell_lines(run)]
    if path.suffix == ".md":
        blocks = [line for line in text.split("\n") if re.match(r" {4,}(uv|bash|git|pip) ", line)]
        inline = re.findall(r"`((?:uv|bash|git) [^`]+)`", text)
        return shell_lines("\n".join([*blocks, *inline]))
    return [line for line in shell_lines(text) if line.startswith("uv ")]


def problems_of(command: str) -> list[str]:
    """Return what in a command does not exist."""
    words = shlex.split(command, comments=True)
    if words[0] not in TOOLS:
        return [f"{words[0]} is none of {', '.join(TOOLS)}"]
    known = TOOLS[words[0]]
    if known is not None and words[1] not in known:
        return [f"{words[0]} {words[1]} is none of {', '.join(sorted(known))}"]
    found = [*_groups(words), *_extras(words), *_markers(words), *_files(words)]
    return [*found, *_program(words)] if words[:2] == ["uv", "run"] else found


def _values(words: list[str], option: str) -> list[str]:
    return [words[at + 1] for at, word in enumerate(words[:-1]) if word == option]


def _groups(words):
    for group in _values(words, "--group"):
        if group not in PROJECT["dependency-groups"]:
            yield f"there is no dependency group {group}"


def _extras(words):
    for extras in re.findall(r"\.\[([\w,]+)\]", " ".join(words)):
        for extra in extras.split(","):
            if extra not in PROJECT["project"]["optional-dependencies"]:
                yield f"there is no extra {extra}"


def _markers(words):
    if "pytest" in words:
        registered = {
            text.split(":")[0] for text in PROJECT["tool"]["pytest"]["ini_options"]["markers"]
        }
        for expression in _values(words[words.index("pytest") :], "-m"):
            for marker in set(re.findall(r"\w+", expression)) - {"not", "and", "or"} - registered:
                yield f"there is no marker {marker}"


def _files(words):
    for word in words[1:]:
        path = word.split("::")[0]
        is_file = re.search(r"^[\w./-]+$", path) and ("/" in path or Path(path).suffix in (".py",))
        is_file = is_file and not path.startswith("-") and not MADE.search(path)
        if (is_file or path in ("tests", "docs", "notebooks")) and not (ROOT / path).exists():
            yield f"there is no file {path}"


def _program(words):
    """Say what is wrong with the program that `uv run` starts:
    neither ours, nor of a group that it has."""
    rest = words[2:]
    while rest[0].startswith("-"):
        rest = rest[2:] if rest[0] in VALUED else rest[1:]
    program = rest[0]
    if program in ("python", *PROJECT["project"]["scripts"]):
        return
    if program not in PACKAGE_OF:
        yield (
            f"{program} is no command of ours; tests/test_workflows.py "
            "lists those of other packages"
        )
        return
    groups = ["dev", *_values(words, "--group")]
    wanted = [
        requirement
        for group in groups
        for requirement in PROJECT["dependency-groups"].get(group, [])
    ]
    names = {re.match(r"[\w-]+", text)[0] for text in [*wanted, *_values(words, "--with")]}
    if PACKAGE_OF[program] not in names:
        yield f"{program} is not installed by {' or '.join(groups)}"


@pytest.mark.parametrize(
    "path", [*WORKFLOWS, ROOT / ".ci" / "run", *PAGES], ids=lambda path: path.name
)
def test_what_commands_name_exists(path):
    commands = commands_of(path)
    assert commands
    wrong = {command: found for command in commands if (found := problems_of(command))}
    assert not wrong


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("uv run --group doc sphinx-build docs docs/_build", "no dependency group doc"),
        ("uv run sphinx-build docs docs/_build", "sphinx-build is not installed by dev"),
        ("uv run towncrier build", "towncrier is not installed"),
        ("uv run nosuch", "nosuch is no command of ours"),
        ("uv runs pytest", "uv runs is none of"),
        ("nox -s tests", "nox is none of"),
        ("uv pip install --editable '.[gui,clusters]'", "no extra clusters"),
        ("uv run pytest -m 'not slows' tests", "no marker slows"),
        ("uv run pytest tests/test_nothing.py", "no file tests/test_nothing.py"),
        ("bash .ci/runs", "no file .ci/runs"),
    ],
)
def test_what_does_not_exist_is_found(command, problem):
    assert problem in "; ".join(problems_of(command))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_say_that_they_have_not_run_and_have_few_rights(path):
    """The first lines may go once a run was seen; that run is the reason to change this test."""
    assert path.read_text().split("\n")[1].startswith("# Not yet run: ")
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        assert job.get("needs", name) in workflow["jobs"], name
        assert all(("run" in step) != ("uses" in step) for step in job["steps"]), name
        assert all(
            re.fullmatch(r"[\w-]+/[\w./-]+@v\d+", step["uses"])
            for step in job["steps"]
            if "uses" in step
        )


def test_the_matrix_is_what_the_package_promises():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text())["jobs"]
    matrix = jobs["matrix"]["strategy"]["matrix"]
    promised = [
        text.rsplit(" ", 1)[1]
        for text in PROJECT["project"]["classifiers"]
        if re.search(r":: 3\.\d+$", text)
    ]
    assert matrix["python"] == promised
    assert [name.split("-")[0] for name in matrix["os"]] == ["ubuntu", "macos", "windows"]


def test_templates_are_read_by_the_host():
    folder = ROOT / ".github" / "ISSUE_TEMPLATE"
    for path in folder.glob("*.md"):
        _, head, body = path.read_text().split("---\n", 2)
        assert set(yaml.safe_load(head)) >= {"name", "about"}
        assert body.strip()
    assert yaml.safe_load((folder / "config.yml").read_text())["blank_issues_enabled"] is True
    report = (folder / "bug_report.md").read_text()
    (line,) = re.findall(r'^python -c "(.*)"$', report, flags=re.MULTILINE)
    compile(line, "bug_report.md", "exec")
    assert all(word in report for word in ("Versions", "format", "script"))


def test_fragments_have_types_that_the_changelog_knows():
    types = {entry["directory"] for entry in PROJECT["tool"]["towncrier"]["type"]}
    fragments = [path for path in (ROOT / "changes").iterdir() if path.name != "README.md"]
    for path in fragments:
        assert re.fullmatch(r"(\+[\w-]+|\d+)\.(\w+)\.md", path.name)[2] in types, path.name
        assert path.read_text().strip()
