"""What frameworks that the program has loaded and initialised know of its ranks.

No framework is imported here, and no message is sent: each is looked up among the loaded modules,
and only asked for what it knows itself.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def _torch() -> dict[str, Any]:
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not (distributed.is_available() and distributed.is_initialized()):
        return {}
    return {"rank": distributed.get_rank(), "world_size": distributed.get_world_size()}


def _jax() -> dict[str, Any]:
    # Of `jax.distributed.initialize`; `jax.process_index` would start the devices.
    module = sys.modules.get("jax._src.distributed")
    state = getattr(module, "global_state", None)
    if state is None or getattr(state, "client", None) is None:
        return {}
    return {"rank": state.process_id, "world_size": state.num_processes}


def _mpi4py() -> dict[str, Any]:
    mpi = sys.modules.get("mpi4py.MPI")
    if mpi is None or not mpi.Is_initialized() or mpi.Is_finalized():
        return {}
    world = mpi.COMM_WORLD
    found = {"rank": world.Get_rank(), "world_size": world.Get_size()}
    return found | {"node": mpi.Get_processor_name()}


def _ray() -> dict[str, Any]:
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return {}
    context = ray.get_runtime_context()
    return {"job_id": context.get_job_id(), "node": context.get_node_id()}


_FRAMEWORKS: dict[str, Callable[[], dict[str, Any]]] = {
    "torch.distributed": _torch,
    "jax.distributed": _jax,
    "mpi4py": _mpi4py,
    "ray": _ray,
}
"""In the order in which they are believed."""
ONE_TRAINING = ("torch.distributed", "jax.distributed")
"""Those whose ranks are one training. Programs that use MPI or Ray may be many."""


def framework_data() -> dict[str, dict[str, str]]:
    """Return what initialised frameworks know of this process, by their names."""
    found = {}
    for name, look in _FRAMEWORKS.items():
        with suppress(Exception):  # a half-initialised framework knows nothing
            said = {key: str(value) for key, value in look().items() if value not in {None, ""}}
            if said:
                found[name] = said
    return found
