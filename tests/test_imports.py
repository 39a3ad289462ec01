"""Who may import whom (STYLE.md, "Rooms"), read from the import statements; and what a flat Hub folder needs."""

import ast
import sys
from pathlib import Path

import pytest


ROOT = Path(__file__).resolve().parents[1]
SHIPPED = sorted((ROOT / "modeling_vmhan").glob("*.py"))
SCRIPTS = sorted((ROOT / "datasets_scripts").glob("*.py"))
CARDS = sorted((ROOT / "model_cards").glob("*.py"))
TRAINING = sorted((ROOT / "training").glob("*.py"))
RIVALS = sorted((ROOT / "rivals").glob("*.py"))
SERVING = sorted((ROOT / "serving").glob("*.py"))
BENCHMARKS = sorted((ROOT / "benchmarks").glob("*.py"))
COMMANDS = [ROOT / "export_mmre.py", ROOT / "predict_mmre.py", ROOT / "run_mmre.py"]
SPACE = sorted((ROOT / "model_cards" / "space").glob("*.py"))
EVALUATION = sorted((ROOT / "evaluation").rglob("*.py"))
EVERYWHERE = [*SHIPPED, *SCRIPTS, *CARDS, *TRAINING, *RIVALS, *SERVING, *EVALUATION, *COMMANDS]

SHIPPED_MAY_IMPORT = {"torch", "transformers", "torchvision", "PIL", "safetensors"}  # the last comes with transformers
# tokenizers comes with transformers
RIVALS_MAY_IMPORT = {"torch", "torchvision", "tokenizers", "transformers", "modeling_vmhan", "rivals"}
# of the model, checks of a configuration and what knows nothing of VMHANConfig
RIVALS_MAY_USE = {
    "configuration_vmhan", "hypergraph", "layers", "baselines", "text_encoding", "outputs", "regions", "vgg16",
    "vision", "visual_projection", "windows", "nodes", "initialisation",
}  # fmt: skip
CARDS_MAY_IMPORT = {"huggingface_hub", "jinja2", "model_cards"}
LAYER_FILES = {
    "posts",
    "outputs",
    "hypergraph",
    "variational",
    "layers",
    "baselines",
    "images",
    "regions",
    "vgg16",
    "vision",
    "visual_projection",
    "text_encoding",
    "windows",
    "uncertainty",
    "explanation",
    "drawing",
    "nodes",
    "initialisation",
    "fetching",
    "mentions",
    "questions",
}
DRIVERS = {"ultralytics", "openai", "vllm", "jsonschema", "onnxruntime", "optuna", "ray"}
SAVED_ONLY = {"predictions", "bootstrap", "score", "confusion_figure", "mmre_f1"}
SAVED_ONLY |= {"report", "report_files", "report_plot", "report_rows", "reported"}
SWEEP = {"sweep", "sweep_plan", "sweep_runs", "sweep_workers"}  # hand out runs to processes that import run_mmre
LIGHT_FILES = {"llm", "llm_openai", "llm_transformers", "selection", "selection_llm", "selection_prompts"}
HEAVY = DRIVERS | {"torch", "torchvision", "transformers", "datasets"}  # imported inside the functions that need them


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
    assert {path.stem for path in SCRIPTS} >= {
        "mnre",
        "postcards",
        "scorer",
        "calibration",
        "detection_ultralytics",
        "graph_export",
    }
    assert {path.stem for path in SPACE} == {"app", "rendering"}
    assert {path.stem for path in CARDS} >= {"cards", "checking", "publishing"}
    assert {path.stem for path in EVALUATION} >= SAVED_ONLY


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
    if path.stem in ("processing_vmhan", "pipeline_vmhan"):
        assert "modeling_vmhan" not in relative


def test_the_pipeline_sits_on_top():
    """Only the package imports it at the top; the model names it inside a function, so that a save ships its files."""
    users = {path.stem for path in SHIPPED if (1, "pipeline_vmhan") in imports(path)}
    assert users == {"__init__", "modeling_vmhan"}
    body = ast.parse((ROOT / "modeling_vmhan" / "modeling_vmhan.py").read_text(encoding="utf-8")).body
    assert "pipeline_vmhan" not in {node.module for node in body if isinstance(node, ast.ImportFrom)}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_data_scripts_never_import_the_model(path):
    modules = {module for level, module in imports(path)}
    assert not modules & {"modeling_vmhan", "modeling_vmhan.modeling_vmhan", "predict_mmre", "run_mmre"}
    assert not any(module.split(".")[0] == "training" for module in modules)


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_cards_know_files_and_the_hub_only(path):
    outside = {module.split(".")[0] for level, module in imports(path) if level == 0}
    assert outside <= CARDS_MAY_IMPORT | set(sys.stdlib_module_names)
    assert not any(level > 0 for level, module in imports(path))


@pytest.mark.parametrize("path", RIVALS, ids=lambda path: path.stem)
def test_rivals_stand_on_the_model_s_plain_layers(path):
    modules = {module for level, module in imports(path) if level == 0}
    assert {module.split(".")[0] for module in modules} <= RIVALS_MAY_IMPORT | set(sys.stdlib_module_names)
    used = {module for module in modules if module.split(".")[0] == "modeling_vmhan"}
    assert used <= {f"modeling_vmhan.{name}" for name in RIVALS_MAY_USE}
    assert not any(level > 0 for level, module in imports(path))


@pytest.mark.parametrize("path", [*SHIPPED, *SCRIPTS, *CARDS], ids=lambda path: path.stem)
def test_only_training_knows_the_rivals(path):
    assert "rivals" not in {module.split(".")[0] for level, module in imports(path) if level == 0}


@pytest.mark.parametrize("path", [path for path in EVALUATION if path.stem in SAVED_ONLY], ids=lambda path: path.stem)
def test_what_is_made_from_saved_runs_knows_no_model(path):
    outside = {module.split(".")[0] for level, module in imports(path) if level == 0}
    of_module = {"datasets", "evaluate"} if path.stem == "mmre_f1" else set()
    own = {"numpy", "matplotlib", "yaml", "datasets_scripts", "model_cards", "evaluation", "rivals"}
    assert outside <= own | of_module | set(sys.stdlib_module_names)
    assert not any(level > 0 for level, module in imports(path))


def test_nobody_below_imports_the_evaluation():
    below = [*SHIPPED, *SCRIPTS, *CARDS, *SPACE, *ROOT.glob("rivals/*.py"), *ROOT.glob("training/*.py")]
    assert not [path for path in below for _, module in imports(path) if module.split(".")[0] == "evaluation"]
    assert not [path for path in EVALUATION for _, module in imports(path) if module.split(".")[0] == "tests"]


def test_only_benchmarks_import_benchmarks():
    assert {path.stem for path in BENCHMARKS} >= {"speed", "timing"}
    outside = [path for path in EVERYWHERE if path not in BENCHMARKS]
    assert not [path for path in outside for _, module in imports(path) if module.split(".")[0] == "benchmarks"]


@pytest.mark.parametrize("path", SPACE, ids=lambda path: path.stem)
def test_the_space_needs_nothing_of_the_package(path):
    outside = {module.split(".")[0] for level, module in imports(path) if level == 0}
    assert outside <= {"gradio", "transformers", *(other.stem for other in SPACE)} | set(sys.stdlib_module_names)
    assert not any(level > 0 for level, module in imports(path))


@pytest.mark.parametrize("path", [path for path in SCRIPTS if path.stem in LIGHT_FILES], ids=lambda path: path.stem)
def test_light_files_import_nothing_heavy_when_imported(path):
    top = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if not isinstance(node, ast.FunctionDef)]
    modules = set()
    for node in top:
        if isinstance(node, ast.Import):
            modules |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add(node.module.split(".")[0])
            own = node.module.removeprefix("datasets_scripts.")
            assert node.module == own or own in LIGHT_FILES | {"phrases"}
    assert not modules & HEAVY


@pytest.mark.parametrize("path", SERVING, ids=lambda path: path.stem)
def test_serving_knows_the_model_and_not_how_it_was_trained(path):
    rooms = {module.split(".")[0] for level, module in imports(path)}
    assert not rooms & {"datasets", "datasets_scripts", "evaluation", "export_mmre", "run_mmre", "training"}


@pytest.mark.parametrize("stem", sorted(SWEEP))
def test_the_sweep_imports_run_mmre_in_its_workers_only(stem):
    path = ROOT / "evaluation" / f"{stem}.py"
    body = ast.parse(path.read_text(encoding="utf-8")).body
    top = {node.module for node in body if isinstance(node, ast.ImportFrom)}
    top |= {alias.name for node in body if isinstance(node, ast.Import) for alias in node.names}
    own = {"evaluation.sweep_plan", "evaluation.sweep_runs", "evaluation.sweep_workers"}
    own |= {"model_cards.facts", "training.flags", "filelock", "tqdm.auto", "yaml"}
    assert {name for name in top if name.split(".")[0] not in sys.stdlib_module_names} <= own


def test_each_driver_is_imported_in_one_file():
    users = {driver: set() for driver in DRIVERS}
    for path in EVERYWHERE:
        for _, module in imports(path):
            if module.split(".")[0] in DRIVERS:
                users[module.split(".")[0]].add(path.name)
    assert all(len(files) <= 1 for files in users.values()), users


@pytest.mark.parametrize("path", EVERYWHERE, ids=lambda path: path.stem)
def test_drivers_are_imported_when_used(path):
    """Inside a function: who does not ask for a driver needs neither the package nor its licence."""
    top = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.stmt)]
    at_import = [alias.name for node in top if isinstance(node, ast.Import) for alias in node.names]
    at_import += [node.module or "" for node in top if isinstance(node, ast.ImportFrom)]
    assert not {module.split(".")[0] for module in at_import} & DRIVERS


@pytest.mark.parametrize("path", [*EVERYWHERE, *SPACE, *EVALUATION, *BENCHMARKS], ids=lambda path: path.stem)
def test_every_module_says_what_it_exports(path):
    names = [
        target.id
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    ]
    assert "__all__" in names


def test_groups_know_rows_only_and_one_file_draws_figures():
    standard = set(sys.stdlib_module_names)
    assert {module for _, module in imports(ROOT / "evaluation" / "groups.py")} <= standard | {"collections.abc"}
    figures = [*(ROOT / "evaluation").glob("figure*.py"), ROOT / "evaluation" / "visual_share.py"]
    users = {path.stem for path in figures for _, module in imports(path) if module.startswith("matplotlib")}
    assert users == {"figure_drawing"}


@pytest.mark.parametrize("path", [path for path in SCRIPTS if path.stem.startswith("prepare")], ids=lambda p: p.stem)
def test_the_preparation_imports_its_tools_only_when_they_are_named(path):
    top = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if not isinstance(node, ast.FunctionDef)]
    found = {node.module for node in top if isinstance(node, ast.ImportFrom)}
    found |= {alias.name for node in top if isinstance(node, ast.Import) for alias in node.names}
    heavy = ("torch", "accelerate", "matplotlib", "modeling_vmhan", "datasets_scripts.detection")
    heavy += ("datasets_scripts.selection", "datasets_scripts.features")
    assert not {module for module in found if module.startswith(heavy)}


def test_the_error_browser_opens_no_model_before_it_is_asked_to():
    files = sorted((ROOT / "evaluation").glob("browser*.py"))
    assert {path.stem for path in files} == {"browser", "browser_data", "browser_html"}
    for path in files:
        body = ast.parse(path.read_text(encoding="utf-8")).body
        top = {node.module.split(".")[0] for node in body if isinstance(node, ast.ImportFrom)}
        assert not top & {"run_mmre", "training", "transformers"}
