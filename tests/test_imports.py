"""What the import contracts of pyproject.toml cannot say: what a flat Hub folder may import, where drivers are."""

import ast
import subprocess
import sys

import pytest
from paths import ROOT


ROOMS = ["modeling_vmhan", "model_cards", "datasets_scripts", "vmhan"]
EVERYWHERE = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
SHIPPED = sorted((ROOT / "modeling_vmhan").glob("*.py"))
SPACE = sorted((ROOT / "model_cards" / "space").glob("*.py"))
DRIVERS = {"ultralytics", "openai", "jsonschema", "onnxruntime", "optuna", "ray"}
HOMES = {"ray": 2}  # Ray Data and Ray Serve
STANDARD = set(sys.stdlib_module_names)


def imports(nodes):
    """(level, module) of the import statements among `nodes`; level 0 is absolute."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or ""


def all_imports(path):
    return list(imports(ast.walk(ast.parse(path.read_text(encoding="utf-8")))))


def imports_at_the_top(path):
    return list(imports(ast.parse(path.read_text(encoding="utf-8")).body))


def test_the_import_contracts_hold():
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " 0 broken" in done.stdout


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_files_import_siblings_and_what_the_hub_side_has(path):
    found = all_imports(path)
    outside = {module.split(".")[0] for level, module in found if level == 0}
    assert outside <= {"torch", "transformers", "torchvision", "PIL", "numpy", "regex", "safetensors"} | STANDARD
    siblings = {other.stem for other in SHIPPED}
    assert all(level == 1 and module in siblings for level, module in found if level > 0)


def test_the_pipeline_sits_on_top():
    """Only the registration imports it at the top; the model names it in a function, so that it is saved with it."""
    users = {path.stem for path in SHIPPED if (1, "pipeline_vmhan") in all_imports(path)}
    assert users == {"registration", "modeling_vmhan"}
    assert (1, "pipeline_vmhan") not in imports_at_the_top(ROOT / "modeling_vmhan" / "modeling_vmhan.py")


@pytest.mark.parametrize("path", SPACE, ids=lambda path: path.stem)
def test_the_space_needs_nothing_of_the_package(path):
    outside = {module.split(".")[0] for _, module in all_imports(path)}
    assert outside <= {"gradio", "transformers", "PIL", *(other.stem for other in SPACE)} | STANDARD


def test_each_driver_is_imported_in_one_file_and_only_when_used():
    """Who does not ask for a driver needs neither the package nor its licence."""
    imported = {path: {module.split(".")[0] for _, module in all_imports(path)} for path in EVERYWHERE}
    for driver in DRIVERS:
        users = [path for path in EVERYWHERE if driver in imported[path]]
        at_top = [path for path in users if driver in {module.split(".")[0] for _, module in imports_at_the_top(path)}]
        assert len(users) == HOMES.get(driver, 1) and not at_top, (driver, users, at_top)


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import vmhan, vmhan.cli", {"torch", "transformers", "datasets"}),
        ("import vmhan.evaluation.sweep.command", {"torch", "transformers", "datasets"}),
        ("import modeling_vmhan.asking, modeling_vmhan.answers", {"torch", "transformers", "datasets"}),
        ("import vmhan.inference.command", {"torch", "transformers", "datasets", "onnxruntime"}),
        ("import vmhan.inference.onnx.backend", {"torch", "transformers", "datasets", "onnxruntime"}),
        ("import datasets_scripts.nodes.chat", {"torch", "transformers", "datasets", "openai"}),
        ("import datasets_scripts.nodes.selection_llm", {"datasets", "openai"}),
    ],
)
def test_light_modules_import_nothing_heavy(code, absent):
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {code}; print(*sorted(sys.modules))"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert not absent & set(done.stdout.split())


@pytest.mark.parametrize("path", EVERYWHERE, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_says_what_it_exports(path):
    body = ast.parse(path.read_text(encoding="utf-8")).body
    names = [t.id for node in body if isinstance(node, ast.Assign) for t in node.targets if isinstance(t, ast.Name)]
    assert "__all__" in names or path.name == "__main__.py"
