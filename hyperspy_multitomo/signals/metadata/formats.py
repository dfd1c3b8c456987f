# SPDX-License-Identifier: GPL-3.0-or-later
"""The formats that a signal can be saved in, asked before anything is written."""

from __future__ import annotations

from pathlib import Path


def check_format(signal, path: Path, file_format: str | None) -> None:
    """Raise a ValueError that names the formats, where that of `path` cannot hold the signal."""
    from rsciio import IO_PLUGINS

    writers = [plugin for plugin in IO_PLUGINS if _holds(plugin, signal)]
    if file_format is not None:
        known = [name for plugin in writers for name in (plugin["name"], *plugin["name_aliases"])]
        if file_format.lower() not in [name.lower() for name in known]:
            raise ValueError(
                f"file_format={file_format!r} must be one of {', '.join(known)}; leave it out to "
                "go by the file's name"
            )
        return
    known = list(
        dict.fromkeys(
            extension.lower() for plugin in writers for extension in plugin["file_extensions"]
        )
    )
    if path.suffix.lower().lstrip(".") not in known:
        kinds = ", ".join(
            f".{extension}"
            for extension in sorted(known, key=lambda one: (one not in ("hspy", "zspy"), one))
        )
        raise ValueError(
            f"{path.name}: this signal cannot be saved as {path.suffix}, only as one of {kinds}; "
            ".hspy and .zspy keep everything"
        )


def _holds(plugin: dict, signal) -> bool:
    """Say whether a writer takes signals with these axes."""
    axes, writes = signal.axes_manager, plugin["writes"]
    uniform = all(axis.is_uniform for axis in axes._axes)
    dimensions = axes.signal_dimension, axes.navigation_dimension
    return (uniform or plugin["non_uniform_axis"]) and (
        writes is True or (bool(writes) and dimensions in map(tuple, writes))
    )
