"""The gates of ``make lint``, so that a test run alone finds what they find, and what files at the root claim."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
GATES = {
    "ruff check": ["ruff", "check", "."],
    "ruff format": ["ruff", "format", "--check", "."],
    "mypy --strict": ["mypy"],
    "import floors": ["lint-imports"],
}


@pytest.mark.slow
@pytest.mark.parametrize("gate", GATES)
def test_gate(gate: str) -> None:
    program, *arguments = GATES[gate]
    command = [str(BIN / program), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPO, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("package", ["callama", "scripts"])
def test_no_file_above_400_lines(package: str) -> None:
    long = {p: n for p in (REPO / package).rglob("*.py") if (n := len(p.read_text().splitlines())) > 400}
    assert not long


def _commands(text: str) -> list[list[str]]:
    """The calls of ``callama`` in shell lines, without comments and without demo.sh's ``run``."""
    lines = text.replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines if re.match(r"(run )?callama ", line)]
    return [line[line.index("callama") :] for line in words]


def test_the_pipeline_in_the_readme_is_the_demo() -> None:
    """Whoever types the README's commands trains what ``make demo`` trains."""
    readme = (
        (REPO / "README.md").read_text(encoding="utf-8").split("## The pipeline, step by step")[1].split("\n## ")[0]
    )
    demo = _commands((REPO / "demo.sh").read_text(encoding="utf-8"))
    steps = [command[1] for command in demo]
    assert steps == ["pull", "synth", "build", "train", "merge", "evaluate"]
    assert [command for command in _commands(readme) if command in demo or command[1] in steps[1:5]] == demo


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_folders_that_are_links_to_a_large_disk_are_ignored_too(tmp_path: Path) -> None:
    shutil.copy(REPO / ".gitignore", tmp_path)
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True, capture_output=True)
    for name in ("models", "datasets", "checkpoints", "logs", ".cache", ".venv"):
        (tmp_path / name).symlink_to(tmp_path.parent)
    found = subprocess.run(["git", "status", "--porcelain"], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert found.stdout == "?? .gitignore\n"


def _names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=]", line)[0].replace("_", "-").lower() for line in requirements}


def test_what_is_imported_is_declared_and_what_is_declared_is_needed() -> None:
    """Also that each has a pinned version, because a set-up installs exactly those."""
    project = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    declared, optional = _names(project["dependencies"]), _names(extras["deepspeed"] + extras["qlora"])
    files = [*(REPO / "callama").rglob("*.py"), *(REPO / "scripts").glob("*.py"), *REPO.glob("*.py")]
    nodes = [node for path in files for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    modules = {node.module.split(".")[0] for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    modules |= {alias.name.split(".")[0] for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    owners = packages_distributions()
    foreign = modules - sys.stdlib_module_names - {"callama"}
    imported = {name.replace("_", "-").lower() for module in foreign for name in owners[module]}
    assert imported - optional == declared - {
        "tensorboard",
        "pip",
    }  # torch's writer needs the one, `pull` starts the other
    pinned = re.findall(r"^([\w.-]+)==", (REPO / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert declared | optional | _names(extras["dev"]) <= _names(pinned) | {"callama", "pip"}


def test_every_trap_has_a_test_of_its_number_but_those_that_decisions_name() -> None:
    texts = [path.read_text(encoding="utf-8") for path in (REPO / "tests").rglob("test_*.py")]
    found = [
        pair for text in texts for pair in re.findall(r"^def test_trap_(\d\d)_(?:and_(\d\d))?", text, re.MULTILINE)
    ]
    tested = {int(number) for pair in found for number in pair if number}
    decisions = (REPO / "docs" / "decisions.md").read_text(encoding="utf-8")
    without = {int(number) for number in re.findall(r"^\| (\d+) \|", decisions, re.MULTILINE)}
    assert tested | without == set(range(1, 35)) and not tested & without
