# SPDX-License-Identifier: GPL-3.0-or-later
"""Isosurfaces of a volume's channels in a k3d plot, with a clipping plane."""

from __future__ import annotations

import numpy as np

#: Largest number of voxels along an axis that is sent to the browser.
MOST = 128


class Surfaces:
    """A k3d plot with one surface per channel, of the same handedness as the pictures.

    The axes of k3d are right-handed, those of the pictures (x to the right, y down, z towards the
    viewer) left-handed: the second axis of the plot is -y, so that large y are in front.

    Parameters
    ----------
    axes : dict of str to (float, float)
        Position of the first voxel and length of a voxel along z, x and y.

    Raises
    ------
    ImportError
        If k3d is not installed.
    """

    def __init__(self, axes: dict[str, tuple[float, float]]):
        try:
            import k3d
        except ImportError as error:
            raise ImportError(
                'the 3-D view needs k3d: pip install "hyperspy_multitomo[gui]", or pip install k3d'
            ) from error
        self._k3d, self._axes = k3d, axes
        # Depth peeling draws several layers of transparency: cores show through their shells.
        look = dict(camera_up_axis="z", axes=["x", "-y", "z"], depth_peels=6, menu_visibility=False)
        self.plot = k3d.plot(name="Isosurfaces", height=480, **look)
        self.meshes: dict[str, object] = {}

    def add(self, name: str, volume: np.ndarray, level: float) -> None:
        """Add the surface of a channel, array (z, x, y)."""
        field, sides = binned_and_padded(volume)
        # k3d puts the outermost samples on the bounds; they are the zeros around the volume.
        bounds = []
        for axis, at in (("x", 1), ("y", 2), ("z", 0)):
            first, step = self._axes[axis]
            start = first + step * ((sides[at] - 1) / 2 - sides[at])
            ends = start, start + step * sides[at] * (field.shape[at] - 1)
            bounds += [-ends[1], -ends[0]] if axis == "y" else ends
        self.meshes[name] = self._k3d.marching_cubes(
            np.ascontiguousarray(field.transpose(0, 2, 1)[:, ::-1]),
            level=level,
            bounds=bounds,
            flat_shading=False,
            name=name,
            compression_level=1,
        )
        self.plot += self.meshes[name]

    def style(self, name: str, shown: bool, colour: str, level: float, opacity: float) -> None:
        """Change how the surface of a channel looks."""
        from matplotlib.colors import to_hex

        mesh = self.meshes[name]
        mesh.visible, mesh.level, mesh.opacity = shown, level, opacity
        mesh.color = int(to_hex(colour)[1:], 16)

    def look(self) -> None:
        """Set the camera to the front, right and above, so that all surfaces fill the plot."""
        self.plot.camera_auto_fit = False
        self.plot.camera = self.plot.get_auto_camera(factor=0.95, yaw=-60, pitch=65)

    def clip(self, axis: str | None, position: float) -> None:
        """Hide everything beyond a position along z or x; None shows everything."""
        normal = {"x": (-1.0, 0.0, 0.0), "z": (0.0, 0.0, -1.0)}.get(axis)
        self.plot.clipping_planes = [] if normal is None else [[*normal, float(position)]]

    def html(self) -> str:
        """Return the present plot as a self-contained HTML page."""
        # The page has no panel, so it gets k3d's menu; the open plot is not synchronised meanwhile.
        with self.plot.hold_sync():
            self.plot.menu_visibility = True
            try:
                return self.plot.get_snapshot()
            finally:
                self.plot.menu_visibility = False

    def close(self) -> None:
        """Free what was sent to the browser."""
        for mesh in self.meshes.values():
            mesh.close()


def binned_and_padded(volume: np.ndarray) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Bin a volume to at most `MOST` voxels along each axis, and pad it with zeros.

    Returns
    -------
    volume : ndarray (z, x, y)
    sides : (int, int, int)
        Binning factors. Where a factor does not divide the size, the last voxel is repeated.

    Examples
    --------
    >>> field, sides = binned_and_padded(np.ones((200, 100, 1), np.float32))
    >>> field.shape, sides, float(field.max())
    ((102, 102, 3), (2, 1, 1), 1.0)
    """
    volume = np.nan_to_num(np.asarray(volume, dtype=np.float32), posinf=0.0, neginf=0.0)
    sides = tuple(-(-n // MOST) for n in volume.shape)
    if max(sides) > 1:
        volume = np.pad(
            volume,
            [(0, -n % side) for n, side in zip(volume.shape, sides, strict=True)],
            mode="edge",
        )
        blocks = [
            size for n, side in zip(volume.shape, sides, strict=True) for size in (n // side, side)
        ]
        volume = volume.reshape(blocks).mean(axis=(1, 3, 5))
    return np.pad(volume, 1), sides
