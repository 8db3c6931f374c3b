"""The house rules of docs/design.md, held by walking the real tree.

Every checker is a function from text to complaints, and is shown to complain by a snippet that
breaks its rule. Files that do not exist break none.
"""

from __future__ import annotations

import ast
import posixpath
import re
import subprocess
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.support.snippets import blocks, complaints, pages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

ROOT = Path(__file__).parents[1]
PACKAGE = "carbontracker"

# ---- what is allowed -----------------------------------------------------------------------

BROAD_HANDLERS = {
    "carbontracker.guard:optional": "the one guard: a part fails, and the program goes on",
    "carbontracker.guard:_Log._log": "what cannot be said must not end a program",
    "carbontracker.training.user_listeners:_OnThisThread._guarded": "the edge to loggers",
    "carbontracker.training.budget:_call": "the edge to on_budget, a function of the user's own",
    "carbontracker.report.console:_print": "a program may put anything in the place of its streams",
    "carbontracker.intensity.cached_provider:CachedProvider._guarded.guarded": "provider of a user",
    "carbontracker.intensity.http:within.run": "raised again on the thread that waits",
    "carbontracker.training.training_run:_guarded.guarded": "the outermost edge to a training",
    "carbontracker.training.steps:length_of": "a container of the user",
    "carbontracker.integrations.framework_run:batch_size": "a batch of the user",
    "carbontracker.jobs.frameworks:framework_data": "a framework of the program may be half begun",
}
BROAD_HANDLERS_CPP: dict[str, str] = {}

# Parts of the package from the ground up. A part may import those before it, also for types only.
LAYERS = (
    "_lazy _moved constants times json_values",
    "exceptions address_space operating_system",
    "extras",
    "guard foreign_calls hostfiles environment data",
    "conversion",
    *("intensity", "location", "energy", "carbon", "model", "jobs", "records", "prediction"),
    "traces",
    *("planning", "training settings", "telemetry", "legacy", "report", "parser loggers forms"),
    *("tracker notebook", "integrations cli", "__main__"),
)
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts.split()}
# Modules that may know only so much of what their layer allows: arrays in, numbers out.
KNOWS = {
    "carbontracker.planning.start_time": (),
    "carbontracker.energy.energy": ("carbontracker.constants", "carbontracker.json_values"),
    "carbontracker.model": (
        *("carbontracker.model", "carbontracker.energy.energy", "carbontracker.carbon.footprint"),
        *("carbontracker.constants", "carbontracker.exceptions", "carbontracker.json_values"),
    ),
    "carbontracker.traces.attribution": ("carbontracker.constants",),
    **dict.fromkeys(
        ("carbontracker.prediction.predictor", "carbontracker.prediction.intervals"),
        ("carbontracker.prediction", "carbontracker.model.prediction"),
    ),
    "carbontracker.location": (
        *(
            f"carbontracker.{name}"
            for name in ("location", "data", "guard", "hostfiles", "exceptions", "json_values")
        ),
        *(f"carbontracker.intensity.{name}" for name in ("cache", "http", "selection")),
    ),
}
# Records are read without a training or a view; views and old formats know no training.
NEVER = {
    "carbontracker.records": ("carbontracker.training", "carbontracker.report"),
    "carbontracker.report": ("carbontracker.training",),
    "carbontracker.legacy": ("carbontracker.training", "carbontracker.report"),
}
# Arrays in, numbers out: no clock either.
TIMELESS = (
    "carbontracker.planning.start_time",
    "carbontracker.energy.energy",
    "carbontracker.traces.attribution",
)
CLOCKS = ("time", "datetime")

NETWORK = (
    *("socket", "socketserver", "ssl", "asyncio", "http", "urllib", "ftplib", "smtplib", "xmlrpc"),
    *("requests", "httpx", "urllib3", "aiohttp"),
)
OFFLINE = ("urllib.parse", "urllib.error")
"""Parts of the above that open nothing."""
IMPORTERS = {
    # The endpoint only answers: it listens for Prometheus, on loopback by default, if
    # the user asks for it.
    NETWORK: (
        "carbontracker.intensity.http",
        # Shuts down the connection that torch has made for us: opens none.
        "carbontracker.jobs.store",
        "carbontracker.telemetry",
    ),
    ("carbontracker._core",): ("carbontracker.energy.session",),
    ("carbontracker.cli",): ("carbontracker.cli", "carbontracker.__main__"),
}
AT_IMPORT = ("__future__", "sys", "importlib", f"{PACKAGE}._lazy", f"{PACKAGE}._moved")
"""All that `carbontracker/__init__.py` may load."""
WRITERS = ("carbontracker.report", "carbontracker.cli")

# Folders of cpp/src, each with what it may include beside its own files.
CORE_KNOWS = {
    "platform": (),
    "sampling": ("platform", "sample.hpp", "sources/source.hpp"),
    "history": ("sample.hpp", "sources/source.hpp"),
    "share": ("platform", "sample.hpp", "sources/source.hpp", "sampling/governor.hpp"),
    "session": ("platform", "sample.hpp", "sources/source.hpp", "sampling", "history", "share"),
}
# A source does not know other sources.
SOURCE_KNOWS = ("platform", "sources/source.hpp")
SHARED_HELPERS = {
    "amd": "order and visibility of ROCm, for the files of the driver and for its library",
    "boards": "which GPUs the meters of a board read, asked where their own library refuses",
    "model": "what the machine says of its processors: what part of one it has is decided once",
    "pci": "what the kernel shows of accelerators, read or not",
    "rapl": "one set of counters behind three doors: equal names tell that they are one",
}

# ---- Python --------------------------------------------------------------------------------


class Import(NamedTuple):
    """One imported name, absolute."""

    name: str
    line: int
    at_run_time: bool


@dataclass(frozen=True)
class Module:
    """A parsed file of the package."""

    name: str
    source: str
    is_package: bool = False

    @cached_property
    def tree(self) -> ast.Module:
        """Return the syntax tree."""
        return ast.parse(self.source)


def under(name: str, parents: tuple[str, ...]) -> bool:
    """Return whether `name` is one of `parents` or inside one."""
    return any(name == parent or name.startswith(f"{parent}.") for parent in parents)


def imports(module: Module) -> Iterator[Import]:
    """Yield every import of the module, also inside functions and for type checkers only."""

    def walk(node: ast.AST, at_run_time: bool) -> Iterator[Import]:
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for statement in node.body:
                yield from walk(statement, at_run_time=False)
            for statement in node.orelse:
                yield from walk(statement, at_run_time)
            return
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, at_run_time)
        if isinstance(node, ast.ImportFrom):
            package = module.name.split(".")[: None if module.is_package else -1]
            base = package[: len(package) - node.level + 1] if node.level else []
            for alias in node.names:
                name = ".".join([*base, *([node.module] if node.module else []), alias.name])
                yield Import(name, node.lineno, at_run_time)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, at_run_time)

    return walk(module.tree, at_run_time=True)


def scopes(node: ast.AST, scope: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Yield every node with the dotted name of the class or function it is in, or defines."""
    for child in ast.iter_child_nodes(node):
        inner = scope
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inner = f"{scope}.{child.name}".lstrip(".")
        yield inner, child
        yield from scopes(child, inner)


def part_of(name: str) -> str:
    """Return the part that a module is in: ``report`` of ``carbontracker.report.pdf``."""
    return [*name.split("."), ""][1]


def layer_complaints(module: Module) -> Iterator[str]:
    """A part of the package knows only the parts below it."""
    own = part_of(module.name)
    if own and own not in LEVEL:
        yield f"{module.name}: {own} has no place in LAYERS"
        return
    for name, line, _ in imports(module):
        where = f"{module.name}:{line}: imports {name}"
        if own and under(name, (PACKAGE,)) and LEVEL.get(part_of(name), 0) > LEVEL[own]:
            yield f"{where}, which is above {own}"


def circles(modules: Sequence[Module]) -> list[list[str]]:
    """Return the circles of imports among files, those for types included.

    A package that only lists the names of its modules is no part of a circle.
    """
    names = {module.name for module in modules}

    def file_of(name: str) -> str:
        while name and name not in names:
            name = name.rpartition(".")[0]
        return name

    graph = {
        module.name: {file_of(one.name) for one in imports(module)} - {module.name, ""}
        for module in modules
        if not module.is_package or "lazy_names" not in module.source
    }

    def reached(start: str) -> set[str]:
        found: set[str] = set()
        left = [start]
        while left:
            for name in graph.get(left.pop(), ()):
                if name in graph and name not in found:
                    found.add(name)
                    left.append(name)
        return found

    reach = {name: reached(name) for name in graph}
    together = {
        tuple(sorted(other for other in reach[name] if name in reach[other]))
        for name in graph
        if name in reach[name]
    }
    return sorted(map(list, together))


def import_complaints(module: Module) -> Iterator[str]:
    """Who may import what."""
    for name, line, at_run_time in imports(module):
        where = f"{module.name}:{line}: imports {name}"
        for asker, known in KNOWS.items():
            inside = under(name, (PACKAGE,)) and not under(name, (f"{PACKAGE}._lazy",))
            if under(module.name, (asker,)) and inside and not under(name, known):
                yield f"{where}; {asker} knows only {', '.join(known)}"
        for asker, unknown in NEVER.items():
            if under(module.name, (asker,)) and under(name, unknown):
                yield f"{where}; {asker} knows nothing of it"
        if under(module.name, TIMELESS) and under(name, CLOCKS):
            yield f"{where}; no clock belongs there"
        for targets, importers in IMPORTERS.items():
            free = under(module.name, importers) or under(name, OFFLINE)
            if under(name, targets) and not free:
                yield f"{where}, which only {', '.join(importers)} may"
        if module.name == PACKAGE and at_run_time and not under(name, AT_IMPORT):
            yield f"{where}; importing the package loads nothing"


def output_complaints(module: Module) -> Iterator[str]:
    """Only views of the record and the command line write to the terminal."""
    if under(module.name, WRITERS):
        return
    for name, line, _ in imports(module):
        if name == "sys.stdout":
            yield f"{module.name}:{line}: writes to standard output"
    for node in ast.walk(module.tree):
        prints = isinstance(node, ast.Name) and node.id == "print"
        stdout = isinstance(node, ast.Attribute) and ast.unparse(node).endswith(
            ("sys.stdout", "sys.__stdout__")
        )
        if isinstance(node, ast.expr) and (prints or stdout):
            yield f"{module.name}:{node.lineno}: writes to standard output"


def is_broad(node: ast.AST) -> bool:
    """Return whether the node swallows any exception: a bare or broad except, or suppress()."""
    broad = {"Exception", "BaseException"}
    if isinstance(node, ast.ExceptHandler):
        kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        return any(kind is None or ast.unparse(kind).split(".")[-1] in broad for kind in kinds)
    if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "suppress":
        return any(ast.unparse(kind).split(".")[-1] in broad for kind in node.args)
    return False


def broad_handlers(module: Module) -> Iterator[str]:
    """Yield where the module swallows any exception."""
    for scope, node in scopes(module.tree):
        if is_broad(node):
            yield f"{module.name}:{scope}"


def handler_complaints(module: Module) -> Iterator[str]:
    """Broad handlers stand at the outermost edges only, and each is listed with its reason."""
    for where in broad_handlers(module):
        if where not in BROAD_HANDLERS:
            yield f"{where} swallows any exception"


# ---- C++ -----------------------------------------------------------------------------------

INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]', re.MULTILINE)
SWALLOW = re.compile(r"catch\s*\(\s*\.\.\.\s*\)")


def own_includes(text: str) -> list[str]:
    """Return the quoted includes of a file of the core: paths from cpp/src on."""
    return [name for mark, name in INCLUDE.findall(text) if mark == '"']


def helper_folder(path: str) -> str:
    """Return the folder of sources/<folder>/<file>, or nothing."""
    parts = path.split("/")
    return parts[1] if parts[0] == "sources" and len(parts) > 2 else ""


def source_knows(path: str, target: str) -> bool:
    """Return whether the source or helper at `path` may include the helper `target`."""
    helper = helper_folder(target)
    return helper in SHARED_HELPERS or (bool(helper) and helper_folder(path) in ("", helper))


def core_complaints(path: str, text: str) -> Iterator[str]:
    """Includes and handlers of the file at `path` in cpp/src."""
    for _, name in INCLUDE.findall(text):
        if name.startswith("pybind11") or posixpath.basename(name) == "Python.h":
            yield f"{path}: the core knows no Python, but includes {name}"
    folder = path.partition("/")[0]
    is_source = folder == "sources"
    known = SOURCE_KNOWS if is_source else (folder, *CORE_KNOWS.get(folder, ()))
    for target in own_includes(text):
        allowed = any(target == name or target.startswith(f"{name}/") for name in known)
        if not allowed and not (is_source and source_knows(path, target)):
            yield f"{path}: includes {target}, but may know only {', '.join(known)}"
    if SWALLOW.search(text) and path not in BROAD_HANDLERS_CPP:
        yield f"{path}: swallows any exception"
    if "directory_iterator" in text:
        yield f"{path}: names_in(), not an iterator that ends the program where memory is short"


def circle_complaints(files: Mapping[str, str]) -> Iterator[str]:
    """Headers include one another in one direction only."""
    includes = {
        path: set(own_includes(text)) for path, text in files.items() if path.endswith(".hpp")
    }
    while leaves := {path for path, targets in includes.items() if not targets & set(includes)}:
        includes = {path: targets for path, targets in includes.items() if path not in leaves}
    if includes:
        yield f"a circle below {', '.join(sorted(includes))}"


def shared_helper_complaints(files: Mapping[str, str]) -> Iterator[str]:
    """A helper folder belongs to one source: sources do not know one another that way either."""
    users: dict[str, set[str]] = defaultdict(set)
    for path, text in files.items():
        for target in own_includes(text):
            if helper_folder(target) and path.startswith("sources/") and not helper_folder(path):
                users[helper_folder(target)].add(path)
    for folder, paths in users.items():
        if len(paths) > 1 and folder not in SHARED_HELPERS:
            yield f"sources/{folder} is shared by {' and '.join(sorted(paths))}"


def binding_complaints(text: str) -> Iterator[str]:
    """The boundary translates and decides nothing, so it knows no sensor."""
    for _, name in INCLUDE.findall(text):
        if "sources/" in name:
            yield f"the bindings include {name}"
    if SWALLOW.search(text):
        yield "the bindings swallow any exception"


# ---- every file ----------------------------------------------------------------------------

MACHINE_PATH = re.compile(r"(?<![\w.~$}-])/(?:root|home|work)(?![\w-])")
REGISTRY = re.compile(
    r"index[-_]url|find[-_]links|files\.pythonhosted|registry\.npm|:/[^\s\\]+/simple\b"
)


def place_complaints(path: str, text: str) -> Iterator[str]:
    """Nothing says on which machine, or from which mirror, it was made."""
    for number, line in enumerate(text.splitlines(), 1):
        for kind, pattern in (("machine path", MACHINE_PATH), ("registry", REGISTRY)):
            if found := pattern.search(line):
                yield f"{path}:{number}: {kind} {found.group()}"


# ---- the documents -------------------------------------------------------------------------

VARIABLE = re.compile(r"\bCARBONTRACKER_[A-Z_]*[A-Z]\b")
INTERNAL_VARIABLES = {
    "CARBONTRACKER_RUN_ID": "told by a command to what it runs",
    "CARBONTRACKER_RESULT_NOTICE": "told by a command to what it runs",
    "CARBONTRACKER_HTTP_JSON_URL": "CARBONTRACKER_<NAME>_URL of one provider",
}


def house_complaints(names: Sequence[str], design: str) -> Iterator[str]:
    """Every module has its place in the house table of docs/design.md, by itself or its folder."""
    house = design.partition("## The house")[2].partition("\n## ")[0]
    listed = set(re.findall(r"`(\w+(?:\.py|/))`", house))
    for name in names:
        _, first, *inner = name.split(".")
        if not first.startswith("__") and (f"{first}/" if inner else f"{first}.py") not in listed:
            yield f"{name} has no place in the house of docs/design.md"


def variable_complaints(texts: Sequence[str], page: str) -> Iterator[str]:
    """Every environment variable that the package reads is in docs/environment.md, and no other."""
    read, told = (
        # A provider's key is put together from its name.
        {name for text in some for name in VARIABLE.findall(text) if not name.endswith("_KEY")}
        for some in (texts, [page])
    )
    for name in sorted(read - told - set(INTERNAL_VARIABLES)):
        yield f"docs/environment.md lacks {name}"
    for name in sorted(told - read):
        yield f"docs/environment.md has {name}, which the package never reads"


# ---- events of a run -----------------------------------------------------------------------

EVENT_WRITERS = (
    "carbontracker.records.writer",
    "carbontracker.training.recorder",
    "carbontracker.cli.measure_command",
    "carbontracker.traces.samples",
    "carbontracker.energy.sensor_events",
)
"""Modules that append events to a record."""
EVENT_VIEWS = (
    "carbontracker.records.reader",
    "carbontracker.report",
    "carbontracker.traces",
    "carbontracker.cli",
)
"""Modules that read records, or show them."""
WRITTEN_FIELDS = ("stopped_by",)
"""Fields that were once written and read by no part of the package."""


def texts(node: ast.AST) -> set[str]:
    """Return the text constants below a node."""
    return {
        one.value
        for one in ast.walk(node)
        if isinstance(one, ast.Constant) and isinstance(one.value, str)
    }


def events_written(module: Module) -> set[str]:
    """Return the events that a module appends: `write("name", ...)`, and names of sensor events."""
    found = set()
    for node in ast.walk(module.tree):
        if (
            isinstance(node, ast.Call)
            and ast.unparse(node.func).endswith(".write")
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            found.add(str(node.args[0].value))
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).startswith("(JOINED"):
            found |= texts(node.value)
    return found


def events_read(module: Module) -> set[str]:
    """Return what a view may mean: its texts, the constants it imports, and the fields it uses."""
    names = {name.rpartition(".")[2] for name, _, _ in imports(module)}
    constants = {"JOINED": "sensor_joined", "LOST": "sensor_lost", "RETURNED": "sensor_returned"}
    fields = {node.attr for node in ast.walk(module.tree) if isinstance(node, ast.Attribute)}
    read = texts(module.tree) | (fields & set(WRITTEN_FIELDS))
    return read | {constants[name] for name in names & set(constants)}


def all_events_written(modules: Sequence[Module]) -> set[str]:
    """Return the events that the package appends to records."""
    return {event for one in modules if one.name in EVENT_WRITERS for event in events_written(one)}


def event_complaints(modules: Sequence[Module]) -> Iterator[str]:
    """Every event that is written, and every field listed, is read by a reader or a view."""
    written = all_events_written(modules)
    views = [
        one for one in modules if under(one.name, EVENT_VIEWS) and one.name not in EVENT_WRITERS
    ]
    read = {event for one in views for event in events_read(one)}
    for event in sorted({*written, *WRITTEN_FIELDS} - read):
        yield f"{event} is written, and no reader or view mentions it"


def notified_events(modules: Sequence[Module]) -> set[str]:
    """Return the events that the package notifies listeners of."""
    return {
        str(node.args[0].value)
        for module in modules
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).endswith("listeners.notify")
        and isinstance(node.args[0], ast.Constant)
    }


def methods_by_class(modules: Sequence[Module]) -> dict[str, set[str]]:
    """Return the names of the methods of each class of the package."""
    return {
        f"{module.name}.{node.name}": {
            one.name for one in node.body if isinstance(one, ast.FunctionDef)
        }
        for module in modules
        for node in module.tree.body
        if isinstance(node, ast.ClassDef)
    }


def listener_complaints(modules: Sequence[Module]) -> Iterator[str]:
    """Each event is declared by `Listener`, is notified, and has a listener that handles it."""
    classes = methods_by_class(modules)
    declared = classes.pop("carbontracker.training.listeners.Listener") - {"close"}
    notified = notified_events(modules)
    listeners = [methods for methods in classes.values() if {"started", "finished"} <= methods]
    handled = {name for methods in listeners for name in methods}
    for event in sorted(declared ^ notified):
        yield f"{event} is {'declared' if event in declared else 'notified'} only"
    for event in sorted(declared - handled):
        yield f"no listener handles {event}"


def walk_complaints(design: str, exists: Callable[[str], bool]) -> Iterator[str]:
    """Every file in a walk-through of docs/design.md exists, and each walk names it once."""
    walks = design.partition("## Two walk-throughs")[2].partition("\n## ")[0]
    for walk in walks.split("\n### ")[1:]:
        files = re.findall(r"^\| `([^`]+)` \|", walk, re.MULTILINE)
        yield from (
            f"the walk-through names {name}, which is not there"
            for name in files
            if not exists(name)
        )
        yield from (
            f"a walk-through names {name} twice"
            for name in sorted({n for n in files if files.count(n) > 1})
        )


# ---- the tree ------------------------------------------------------------------------------


def package_modules() -> list[Module]:
    """Return every module of the package as it is now."""
    modules = []
    for path in sorted((ROOT / "python").rglob("*.py")):
        parts = path.relative_to(ROOT / "python").with_suffix("").parts
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        modules.append(Module(name, path.read_text(encoding="utf-8"), is_package))
    return modules


def core_files() -> dict[str, str]:
    """Return the text of every file in cpp/src by its path there."""
    source = ROOT / "cpp" / "src"
    paths = [path for path in sorted(source.rglob("*")) if path.suffix in (".cpp", ".hpp")]
    return {path.relative_to(source).as_posix(): path.read_text("utf-8") for path in paths}


def repository_files() -> dict[str, str]:
    """Return the text of every file that is, or would be, tracked; skip outside a checkout."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "-co", "--exclude-standard"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    texts = {}
    for name in filter(None, listed.split("\0")):
        content = (ROOT / name).read_bytes() if (ROOT / name).is_file() else b"\0"
        if b"\0" not in content:
            texts[name] = content.decode("utf-8", errors="replace")
    return texts


@pytest.mark.parametrize(
    "check", [layer_complaints, import_complaints, output_complaints, handler_complaints]
)
def test_the_package_keeps_the_rules(check: Callable[[Module], Iterator[str]]) -> None:
    modules = package_modules()
    assert {"carbontracker", "carbontracker.energy.energy"} <= {module.name for module in modules}
    assert [complaint for module in modules for complaint in check(module)] == []


def test_no_imports_go_in_a_circle() -> None:
    assert circles(package_modules()) == []


def test_a_circle_is_seen() -> None:
    modules = [
        Module("carbontracker.a", "from carbontracker.b import x"),
        Module("carbontracker.b", "if TYPE_CHECKING:\n    from carbontracker.c import X"),
        Module("carbontracker.c", "def f():\n    from carbontracker import a"),
        Module("carbontracker.d", "from carbontracker.a import y"),
    ]
    assert circles(modules) == [["carbontracker.a", "carbontracker.b", "carbontracker.c"]]


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("carbontracker.model.epoch", "from carbontracker.training.run import Run"),
        ("carbontracker.report.html", "import carbontracker.tracker"),
        (
            "carbontracker.energy.session",
            "if TYPE_CHECKING:\n    from carbontracker import records",
        ),
        ("carbontracker.novel.thing", "import carbontracker.model"),
    ],
)
def test_an_import_of_a_layer_above_is_seen(name: str, source: str) -> None:
    assert name in one(layer_complaints, name, source)


def test_the_core_keeps_the_rules() -> None:
    files = core_files()
    assert {"sampling/ring.hpp", "sources/registry.cpp"} <= set(files)
    complaints = [c for path, text in files.items() for c in core_complaints(path, text)]
    assert [*complaints, *shared_helper_complaints(files), *circle_complaints(files)] == []


def test_the_bindings_keep_the_rules() -> None:
    files = sorted((ROOT / "cpp" / "bindings").glob("*.cpp"))
    assert {"module.cpp", "span.cpp"} <= {file.name for file in files}
    texts = [file.read_text(encoding="utf-8") for file in files]
    assert [complaint for text in texts for complaint in binding_complaints(text)] == []


def test_no_file_names_a_machine_or_a_mirror() -> None:
    files = repository_files()
    assert "pyproject.toml" in files
    assert [c for path, text in files.items() for c in place_complaints(path, text)] == []


def test_every_event_written_has_a_reader_and_a_view() -> None:
    modules = package_modules()
    written = all_events_written(modules)
    assert {"run_started", "run_finished", "epoch", "located", "advice", "sensor_lost"} <= written
    assert list(event_complaints(modules)) == []


def test_an_event_that_is_read_by_no_view_is_seen() -> None:
    modules = [
        Module("carbontracker.records.writer", "record.write('a')\nself.write('b', x=1)"),
        Module("carbontracker.report.sentences", "run.of('b')\nrun.ending.stopped_by"),
        Module("carbontracker.cli.measure_command", "listeners.notify('a')"),  # writes, reads none
    ]
    assert list(event_complaints(modules)) == ["a is written, and no reader or view mentions it"]


def test_every_event_of_a_run_is_declared_notified_and_handled() -> None:
    modules = package_modules()
    assert {"started", "epoch", "finished"} <= notified_events(modules)
    assert list(listener_complaints(modules)) == []


def test_an_event_that_no_listener_handles_is_seen() -> None:
    modules = [
        Module(
            "carbontracker.training.listeners",
            "class Listener:\n"
            "    def started(self): ...\n"
            "    def finished(self): ...\n"
            "    def lost(self): ...\n"
            "    def unused(self): ...\n",
        ),
        Module("carbontracker.a", "class A:\n def started(self): ...\n def finished(self): ..."),
        Module(
            "carbontracker.b",
            "listeners.notify('started')\nself._listeners.notify('lost', 1)\n"
            "listeners.notify('finished')\nlisteners.notify('new')",
        ),
    ]
    assert list(listener_complaints(modules)) == [
        "new is notified only",
        "unused is declared only",
        "no listener handles lost",
        "no listener handles unused",
    ]


def test_the_documents_know_the_tree() -> None:
    modules = package_modules()
    names = [f"{module.name}.__init__" if module.is_package else module.name for module in modules]
    design = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    assert list(house_complaints(names, design)) == []
    roots = (ROOT, ROOT / "python" / PACKAGE)
    walks = walk_complaints(design, lambda name: any((root / name).is_file() for root in roots))
    assert list(walks) == []
    variables = (ROOT / "docs" / "environment.md").read_text(encoding="utf-8")
    assert list(variable_complaints([module.source for module in modules], variables)) == []
    marked = (one for page in pages() for block in blocks(page) for one in complaints(block))
    assert list(marked) == []
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    assert [
        page.name for page in (ROOT / "docs").glob("*.md") if f" {page.name}\n" not in menu
    ] == []


def test_the_lists_of_parts_are_in_the_files_that_contributing_names() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"in `([A-Z]+)`, `(\S+)`", text)
    assert [name for name, _ in rows] == ["PROVIDERS", "FORMS", "FORMATS", "COMMANDS"]
    for name, path in rows:
        assert re.search(rf"^{name} = ", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)


def test_a_document_that_does_not_know_the_tree_is_seen() -> None:
    design = "`late.py`\n## The house\n| `one.py`, `many/` | x |\n## Decisions\n`late.py`"
    names = ["carbontracker.one", "carbontracker.many.two", "carbontracker.late"]
    assert [one.split()[0] for one in house_complaints(names, design)] == ["carbontracker.late"]
    rows = "| `here` | x |\n| `gone` | x |\n| `here` | x |"
    walk = f"## Two walk-throughs\n### A\n{rows}\n### B\n| `here` | x |"
    walks = list(walk_complaints(walk, lambda name: name == "here"))
    assert [complaint.split()[3].strip(",") for complaint in walks] == ["gone", "here"]
    found = list(variable_complaints(["CARBONTRACKER_A"], "CARBONTRACKER_B"))
    assert [one.split()[-1] for one in found] == ["CARBONTRACKER_A", "reads"]


def test_every_exception_is_still_needed() -> None:
    modules = package_modules()
    needed = {where for module in modules for where in broad_handlers(module)}
    listed = set(BROAD_HANDLERS)
    here = {module.name for module in modules}
    assert {where for where in listed - needed if where.partition(":")[0] in here} == set()


# ---- the checkers can fail -----------------------------------------------------------------


def one(check: Callable[[Module], Iterator[str]], name: str, source: str) -> str:
    """Return the only complaint about a module, or nothing."""
    complaints = list(check(Module(name, source, is_package=name in (PACKAGE, f"{PACKAGE}.cli"))))
    assert len(complaints) <= 1
    return complaints[0] if complaints else ""


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("carbontracker.energy.energy", "from carbontracker.energy.session import Session"),
        ("carbontracker.energy.energy", "import carbontracker"),
        ("carbontracker.energy.energy", "from . import session"),
        ("carbontracker.energy.energy", "def f():\n    import time"),
        ("carbontracker.energy.energy", "from datetime import datetime"),
        (
            "carbontracker.intensity.providers.table",
            "from carbontracker.location.location import locate",
        ),
        ("carbontracker.intensity.new", "from ..energy.energy import Energy"),
        (
            "carbontracker.intensity",
            "if TYPE_CHECKING:\n    from carbontracker.energy.energy import Energy",
        ),
        ("carbontracker.records.writer", "import carbontracker.cli.run"),
        ("carbontracker.records.reader", "from carbontracker.training.run import Run"),
        ("carbontracker.records.writer", "from carbontracker import cli"),
        ("carbontracker.location.location", "import socket"),
        ("carbontracker.intensity.cached_provider", "import socket"),
        ("carbontracker.location.location", "def f():\n    from urllib.request import urlopen"),
        ("carbontracker.location.location", "from urllib import request"),
        ("carbontracker.report.html", "import requests"),
        ("carbontracker.report.live", "from carbontracker.training.run import Run"),
        ("carbontracker.measure", "from carbontracker import _core"),
        ("carbontracker.measure", "from carbontracker._core import Session"),
        ("carbontracker", "import os"),
        ("carbontracker", "def __getattr__(name):\n    import numpy"),
        ("carbontracker", "if TYPE_CHECKING:\n    import os\nelse:\n    import re"),
    ],
)
def test_a_forbidden_import_is_seen(name: str, source: str) -> None:
    assert name in one(import_complaints, name, source) + one(layer_complaints, name, source)


@pytest.mark.parametrize(
    ("name", "source"),
    [
        (
            "carbontracker.energy.energy",
            "import math\nfrom carbontracker.constants import JOULES_PER_KWH",
        ),
        (
            "carbontracker.intensity.http",
            "import socket\nfrom carbontracker.data import rows",
        ),
        ("carbontracker.location.location", "from urllib.parse import quote"),
        ("carbontracker.intensity.http", "from urllib.request import Request"),
        ("carbontracker.energy.session", "from carbontracker import _core"),
        ("carbontracker.cli", "from carbontracker.cli.run import run\nfrom .child import spawn"),
        ("carbontracker.__main__", "from carbontracker.cli import main"),
        ("carbontracker", "if TYPE_CHECKING:\n    from carbontracker.energy.energy import Energy"),
        ("carbontracker.windows", "import time"),  # another module than window
    ],
)
def test_an_allowed_import_is_let_pass(name: str, source: str) -> None:
    assert not one(import_complaints, name, source)


@pytest.mark.parametrize(
    "source",
    [
        "print(1)",
        "list(map(print, []))",
        "import sys\nsys.stdout.write('')",
        "from sys import stdout",
    ],
)
def test_output_is_seen_outside_the_views(source: str) -> None:
    assert "standard output" in one(output_complaints, "carbontracker.training.run", source)
    for name in ("carbontracker.report.sentences", "carbontracker.cli"):
        assert not one(output_complaints, name, source)
    assert not one(
        output_complaints, "carbontracker.training.run", "import sys\nsys.stderr.write('')"
    )


@pytest.mark.parametrize(
    "source",
    [
        "try:\n    pass\nexcept:\n    pass",
        "try:\n    pass\nexcept Exception:\n    pass",
        "try:\n    pass\nexcept (OSError, builtins.BaseException) as e:\n    pass",
        "def f():\n    with contextlib.suppress(Exception):\n        pass",
    ],
)
def test_a_broad_handler_is_seen(source: str) -> None:
    assert one(handler_complaints, "carbontracker.new", source).endswith("swallows any exception")
    narrow = source.replace("BaseException", "Error").replace("Exception", "OSError")
    assert not one(
        handler_complaints, "carbontracker.new", narrow.replace("except:", "except OSError:")
    )


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("platform/host.cpp", "#include <pybind11/pybind11.h>"),
        ("sources/x.cpp", "# include <Python.h>"),
        ("sources/x.cpp", '#include "sampling/ring.hpp"'),
        ("sources/x.cpp", '#include "session/session.hpp"'),
        ("sources/x.cpp", '#include "sources/nvml.hpp"'),
        ("sources/nvidia/x.cpp", '#include "sources/gaudi/library.hpp"'),
        ("sources/nvidia/x.cpp", '#include "library.hpp"'),
        ("sampling/meter.hpp", '#include "session/session.hpp"'),
        ("sampling/meter.hpp", '#include "history/timeline.hpp"'),
        ("history/timeline.hpp", '#include "platform/clock.hpp"'),
        ("platform/clock.hpp", '#include "sample.hpp"'),
        ("sample.hpp", '#include "sources/source.hpp"'),
        ("new/x.hpp", '#include "sample.hpp"'),
        ("sampling/sampler.cpp", "try { f(); } catch (...) {}"),
        ("sources/x.cpp", "std::filesystem::directory_iterator entry(path, error);"),
    ],
)
def test_a_core_file_that_breaks_a_rule_is_seen(path: str, text: str) -> None:
    assert len(list(core_complaints(path, text))) == 1


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("sources/x.cpp", '#include "sources/source.hpp"\n#include "sources/x/library.hpp"'),
        ("sources/x/library.cpp", '#include "sources/x/library.hpp"\n#include <set>'),
        ("sources/x/library.cpp", '#include "platform/clock.hpp"'),
        ("sources/x/library.cpp", '#include "sources/rapl/identity.hpp"'),
        ("sampling/meter.cpp", '#include "sampling/meter.hpp"\n#include "sample.hpp"'),
        ("session/session.cpp", '#include "sampling/sampler.hpp"\n// as pybind11 does'),
    ],
)
def test_a_core_file_that_keeps_the_rules_is_let_pass(path: str, text: str) -> None:
    assert list(core_complaints(path, text)) == []


def test_a_circle_among_headers_is_seen() -> None:
    line = {"a.hpp": '#include "b.hpp"', "b.hpp": '#include "c.hpp"', "c.hpp": ""}
    assert list(circle_complaints(line | {"c.cpp": '#include "a.hpp"'})) == []
    assert list(circle_complaints(line | {"c.hpp": '#include "b.hpp"'})) == [
        "a circle below a.hpp, b.hpp, c.hpp"
    ]


def test_a_helper_folder_of_two_sources_is_seen() -> None:
    helped = {
        "sources/a.cpp": '#include "sources/x/l.hpp"',
        "sources/x/l.cpp": '#include "sources/x/l.hpp"',
    }
    assert list(shared_helper_complaints(helped)) == []
    shared = helped | {"sources/b.cpp": '#include "sources/x/m.hpp"'}
    assert list(shared_helper_complaints(shared)) == [
        "sources/x is shared by sources/a.cpp and sources/b.cpp"
    ]
    excepted = {path: text.replace("sources/x/", "sources/rapl/") for path, text in shared.items()}
    assert list(shared_helper_complaints(excepted)) == []


def test_a_binding_that_decides_is_seen() -> None:
    assert list(binding_complaints('#include "session/session.hpp"')) == []
    for text in ('#include "sources/nvidia/library.hpp"', "catch(...) {}"):
        assert len(list(binding_complaints(text))) == 1


def test_a_machine_or_a_mirror_in_a_file_is_seen() -> None:
    slash, dash = "/", "-"
    for text in (
        f"see {slash}home/me/x",
        f"cd {slash}work",
        f'"{slash}root"',
        f"pip install --index{dash}url x",
        f"https:{slash}/mirror.example{slash}pypi{slash}simple",
    ):
        assert len(list(place_complaints("README.md", f"first\n{text}\n"))) == 1
    for text in ("host/root/x", "/homes", "~/work", "$HOME/work", "https://pypi.org/project/x"):
        assert list(place_complaints("README.md", text)) == []
