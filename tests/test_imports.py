"""Who may import whom (STYLE.md, "Rooms"), read from the import statements; and what a flat Hub folder needs."""

import ast
import sys
from pathlib import Path

import pytest


ROOT = Path(__file__).resolve().parents[1]
SHIPPED = sorted((ROOT / "modeling_vmhan").glob("*.py"))
SCRIPTS = sorted((ROOT / "datasets_scripts").glob("*.py"))

SHIPPED_MAY_IMPORT = {"torch", "transformers", "torchvision", "PIL"}
LAYER_FILES = {
    "posts",
    "outputs",
    "hypergraph",
    "variational",
    "layers",
    "baselines",
    "vision",
    "text_encoding",
    "windows",
}
DRIVERS = {"ultralytics", "openai", "vllm"}


def imports(path: Path) -> list[tuple[int, str]]:
    """(level, module) of each import statement; level 0 is absolute."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(0, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.level, node.module or ""))
    return found


def test_the_rooms_are_found():
    assert {path.stem for path in SHIPPED} >= {"configuration_vmhan", "modeling_vmhan", "processing_vmhan"}
    assert {path.stem for path in SCRIPTS} >= {"mnre", "postcards", "scorer"}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_files_import_only_what_the_hub_side_has(path):
    standard = set(sys.stdlib_module_names)
    outside = {module.split(".")[0] for level, module in imports(path) if level == 0}
    assert outside <= SHIPPED_MAY_IMPORT | standard


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_files_import_siblings_flat(path):
    siblings = {other.stem for other in SHIPPED}
    relative = [(level, module) for level, module in imports(path) if level > 0]
    assert all(level == 1 and module in siblings for level, module in relative)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_rooms_inside_the_model_folder(path):
    relative = {module for level, module in imports(path) if level > 0}
    if path.stem == "configuration_vmhan":
        assert not relative
    if path.stem in LAYER_FILES:
        assert "configuration_vmhan" not in relative and "modeling_vmhan" not in relative
    if path.stem == "processing_vmhan":
        assert "modeling_vmhan" not in relative


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_data_scripts_never_import_the_model(path):
    modules = {module for level, module in imports(path)}
    assert not modules & {"modeling_vmhan", "modeling_vmhan.modeling_vmhan", "run_mmre"}


def test_each_driver_is_imported_in_one_file():
    users = {driver: set() for driver in DRIVERS}
    for path in [*SHIPPED, *SCRIPTS, ROOT / "run_mmre.py"]:
        for _, module in imports(path):
            if module.split(".")[0] in DRIVERS:
                users[module.split(".")[0]].add(path.name)
    assert all(len(files) <= 1 for files in users.values()), users


@pytest.mark.parametrize("path", [*SHIPPED, *SCRIPTS, ROOT / "run_mmre.py"], ids=lambda path: path.stem)
def test_every_module_says_what_it_exports(path):
    names = [
        target.id
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    ]
    assert "__all__" in names


@pytest.mark.parametrize("path", [path for path in SCRIPTS if path.stem.startswith("prepare")], ids=lambda p: p.stem)
def test_the_preparation_imports_its_tools_only_when_they_are_named(path):
    top = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if not isinstance(node, ast.FunctionDef)]
    found = {node.module for node in top if isinstance(node, ast.ImportFrom)}
    found |= {alias.name for node in top if isinstance(node, ast.Import) for alias in node.names}
    heavy = ("torch", "accelerate", "matplotlib", "modeling_vmhan", "datasets_scripts.detection")
    heavy += ("datasets_scripts.selection", "datasets_scripts.features")
    assert not {module for module in found if module.startswith(heavy)}
