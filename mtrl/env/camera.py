"""Drawing without a screen: the OpenGL that MuJoCo uses, and an upright camera.

MuJoCo reads which OpenGL to use when it is imported, so nothing here imports it at the top.
"""

import importlib
import os
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mtrl.errors import NoGraphicsError
from mtrl.rundir.environment import import_alike

if TYPE_CHECKING:
    import mujoco

CAMERA = "corner2"
"""The camera that sees the whole table; it hangs upside down."""

_TRY = "import mujoco; mujoco.Renderer(mujoco.MjModel.from_xml_string('<mujoco/>'), 16, 16).render()"
"""A whole picture: without a screen GLFW makes a context that only fails when something is drawn."""
_PATIENCE = 60
"""Seconds after which a driver that does not answer counts as one that does not work."""


def choose_graphics() -> str:
    """Set ``MUJOCO_GL`` to what draws on this machine without a screen, let MuJoCo use it, and return it.

    If the variable is set, its value is tried and left as it is; a system other than Linux is left alone.

    Raises:
        NoGraphicsError: Neither EGL nor OSMesa works, or the variable's value does not.
    """
    chosen = os.environ.get("MUJOCO_GL", "")
    if not sys.platform.startswith("linux"):
        return chosen
    for name in [chosen] if chosen else ["egl", "osmesa"]:
        # In a process of its own: MuJoCo cannot be imported twice, and a bad driver may crash.
        variables = os.environ | import_alike() | {"MUJOCO_GL": name}
        with suppress(subprocess.SubprocessError):
            command = [sys.executable, "-c", _TRY]
            subprocess.run(command, env=variables, capture_output=True, check=True, timeout=_PATIENCE)
            os.environ["MUJOCO_GL"] = name
            if not chosen and "mujoco" in sys.modules:
                # Imported before, it still has what needs a screen.
                module = importlib.import_module(f"mujoco.{name}")
                sys.modules["mujoco.gl_context"].GLContext = module.GLContext
            return name
    if chosen:
        raise NoGraphicsError(
            f"MUJOCO_GL={chosen} cannot draw here: unset it, and what can is chosen (EGL or OSMesa)"
        )
    raise NoGraphicsError(
        "neither EGL nor OSMesa can draw here: install one of them, on Debian and Ubuntu with "
        "apt-get install libegl1 libgl1-mesa-dri (or libosmesa6)"
    )


class Camera:
    """Draws simulations from the corner above the table, the right way up, without shadows and reflections.

    Each model has a renderer, hence an OpenGL context, of its own: gymnasium's viewer does not make its context
    current, so that beside a second one it draws parts of the wrong scene. Shadows and reflections would make
    drawing four times slower without a GPU. ``size`` is width and height in pixels.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._renderers: dict[int, mujoco.Renderer] = {}

    def picture(self, model: "mujoco.MjModel", data: "mujoco.MjData") -> NDArray[np.uint8]:
        """Return ``(size, size, 3)``; raise NoGraphicsError where nothing can draw."""
        import mujoco

        if not os.environ.get("MUJOCO_GL") or not hasattr(mujoco, "GLContext"):
            choose_graphics()
        if id(model) not in self._renderers:
            model.vis.global_.offwidth = max(model.vis.global_.offwidth, self._size)
            model.vis.global_.offheight = max(model.vis.global_.offheight, self._size)
            self._renderers[id(model)] = mujoco.Renderer(model, self._size, self._size)
        renderer = self._renderers[id(model)]
        renderer.update_scene(data, camera=CAMERA)
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            renderer.scene.flags[flag] = False
        return np.rot90(renderer.render(), 2).copy()

    def close(self) -> None:
        """Free the OpenGL contexts."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()
