"""Old import paths, which go on working for one release with a DeprecationWarning."""

from __future__ import annotations

TYPE_CHECKING = False  # the name type checkers know; typing itself would cost ten milliseconds
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType

_ROOT = __name__.partition(".")[0]

MOVED = {
    "arguments": "conversion",
    "cli.arguments": "cli.parser",
    "cli.limits": "cli.budget_supervisor",
    "records.recorded": "records.run_record",
    "report.text": "report.sentences",
    "advising.advice": "planning.start_time",
    "advising.aside": "planning.background",
    "advising.elsewhere": "planning.regions",
    "ahead.accelerators": "planning.accelerators",
    "ahead.costing": "planning.estimate",
    "ahead.foresight": "training.forecaster",
    "ahead.outcome": "model.prediction_error",
    "ahead.predict": "model.prediction",
    "ahead.prediction": "prediction",
    "ahead.previous": "prediction.previous_run",
    "ahead.uncertainty": "prediction.carbon_interval",
    "budget": "training.budget",
    "cli.family": "cli.process_tree",
    "cli.measuring": "cli.measure_command",
    "components": "energy.components",
    "equivalents": "carbon.equivalents",
    "followers": "training.user_listeners",
    "footprint": "carbon.footprint",
    "intensity.carbonintensity_gb": "intensity.providers.carbonintensity_gb",
    "intensity.choice": "intensity.selection",
    "intensity.constant": "intensity.providers.constant",
    "intensity.eia930": "intensity.providers.eia930",
    "intensity.electricitymaps": "intensity.providers.electricitymaps",
    "intensity.energidataservice": "intensity.providers.energidataservice",
    "intensity.energycharts": "intensity.providers.energycharts",
    "intensity.entsoe": "intensity.providers.entsoe",
    "intensity.http_json": "intensity.providers.http_json",
    "intensity.live": "intensity.live_provider",
    "intensity.mix": "intensity.providers.generation_mix",
    "intensity.odre": "intensity.providers.odre",
    "intensity.table": "intensity.providers.table",
    "intensity.watttime": "intensity.providers.watttime",
    "inventory": "energy.sensors",
    "lifetime": "training.lifetime",
    "measurement": "training.window",
    "place": "location",
    "place.cloud": "location.cloud",
    "place.location": "location.location",
    "place.whereabouts": "location.lookup",
    "pricing": "carbon.factors",
    "records.adding": "records.aggregate",
    "records.checking": "records.validate",
    "records.comparing": "records.compare",
    "records.oldlogs": "legacy.log_writer",
    "records.oldtext": "legacy.log_text",
    "records.plain": "json_values",
    "records.reading": "records.reader",
    "records.record": "records.writer",
    "records.repricing": "records.recalculation",
    "records.surroundings": "records.environment",
    "records.windowlog": "training.window_log",
    "report.facts": "report.derived",
    "report.figures": "report.formatting",
    "report.oldformat": "report.console_text",
    "report.watching": "report.live",
    "run": "training.run",
    "sensorevents": "energy.sensor_events",
    "session": "energy.session energy.config",
    "steps": "training.steps",
    "telemetry.address": "conversion",
    "telemetry.exposition": "telemetry.prometheus",
    "telemetry.publishing": "telemetry.exporters",
    "traces.chrometrace": "traces.chrome",
    "traces.powertrace": "traces.power",
    "traces.profiled": "traces.profile",
    "vitals": "training.live_status",
    "window": "energy.energy",
}
"""Modules below ``carbontracker``: where they were, and where what was in them is."""

RENAMED = {
    "place.location": {"Place": "Location"},
    "pricing": {"Pricing": "CarbonFactors", "make_pricing": "make_carbon_factors"},
    "records.repricing": {"reprice": "recalculate"},
    "session": {"Simulated": "SimulatedDevice"},
}
"""Names that have changed, by the module they were in."""


class MovedModules:
    """A finder for ``sys.meta_path`` that knows the modules of ``MOVED``."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return how to load a module that has moved, or a package of such modules."""
        del path, target
        root, _, old = name.partition(".")
        if root != _ROOT or not old:
            return None
        is_package = any(one.startswith(f"{old}.") for one in MOVED)
        if old not in MOVED and not is_package:
            return None
        from importlib.machinery import ModuleSpec

        return ModuleSpec(name, self, is_package=is_package)  # type: ignore[arg-type]  # a loader by shape

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave it to the import system to make the module."""

    def exec_module(self, module: ModuleType) -> None:
        """Have the module look up its names in the new place."""
        old = module.__name__.partition(".")[2]
        if old not in MOVED:
            return
        from importlib import import_module
        from warnings import warn

        new = [import_module(f"{_ROOT}.{name}") for name in MOVED[old].split()]
        names = " and ".join(one.__name__ for one in new)
        message = f"{module.__name__} is now {names}; the next release drops the old path"
        warn(message, DeprecationWarning, stacklevel=2)
        renamed = RENAMED.get(old, {})

        def look_up(name: str) -> object:
            name = renamed.get(name, name)
            return getattr(next((one for one in new if hasattr(one, name)), new[0]), name)

        module.__dict__["__getattr__"] = look_up
        module.__dict__["__dir__"] = lambda: sorted({name for one in new for name in dir(one)})
