# SPDX-License-Identifier: GPL-3.0-or-later
"""A minimal DM3 or DM4 file: the tree of tags in which Gatan's DigitalMicrograph keeps images."""

import struct

import numpy as np

# Codes of the types of an image's data, and of the elements of an array of tags.
IMAGE_TYPES = {"int16": 1, "float32": 2, "uint8": 6, "int32": 7, "uint16": 10, "uint32": 11}
ELEMENT_TYPES = {
    "int16": 2,
    "int32": 3,
    "uint16": 4,
    "uint32": 5,
    "float32": 6,
    "float64": 7,
    "uint8": 10,
}


def write_dm(path, images):
    """
    Write images, dictionaries with data ((y, x) or (energy, y, x)), name, pixel_size (nm),
    energy (first, step, units), signal
    ("EELS" or "X-ray") and tags (ImageTags).
    """
    version = int(path.suffix[-1])
    long = ">q" if version == 4 else ">i"

    def number(value):
        return struct.pack(long, value)

    def group(tree):
        return b"\x01\x00", number(len(tree)) + b"".join(
            tag(name, value) for name, value in tree.items()
        )

    def tag(name, value):
        name = "" if name.startswith("#") else name
        header = struct.pack(">h", len(name)) + name.encode()
        if isinstance(value, dict):
            flags, body = group(value)
            return b"\x14" + header + flags + (number(len(body)) if version == 4 else b"") + body
        if isinstance(value, str):
            value = np.frombuffer(value.encode("utf-16-le"), dtype=np.uint16)
        if isinstance(value, np.ndarray):
            info, raw = [20, ELEMENT_TYPES[value.dtype.name], value.size], value.tobytes()
        elif isinstance(value, int):
            info, raw = [3], struct.pack("<i", value)
        else:
            info, raw = [7], struct.pack("<d", value)
        body = b"%%%%" + number(len(info)) + b"".join(number(i) for i in info) + raw
        return b"\x15" + header + (number(len(body)) if version == 4 else b"") + body

    flags, body = group(
        {"ImageList": {f"#{i}": image_tags(**image) for i, image in enumerate(images)}}
    )
    path.write_bytes(
        struct.pack(">i", version) + number(len(body)) + struct.pack(">i", 1) + flags + body
    )
    return path


def image_tags(data, name="", pixel_size=2.0, energy=None, signal="", tags=None):
    sides = [{"Origin": 0.0, "Scale": float(pixel_size), "Units": "nm"}] * 2
    if energy is not None:
        first, step, units = energy
        sides.append({"Origin": -first / step, "Scale": float(step), "Units": units})
    meta = {"Signal": signal, "Format": "Spectrum image"} if signal else {}
    return {
        "ImageData": {
            "Calibrations": {
                "Brightness": {"Origin": 0.0, "Scale": 1.0, "Units": ""},
                "Dimension": {f"#{i}": side for i, side in enumerate(sides)},
            },
            "Data": np.ascontiguousarray(data).ravel(),
            "DataType": IMAGE_TYPES[data.dtype.name],
            "Dimensions": {f"#{i}": size for i, size in enumerate(data.shape[::-1])},
        },
        "ImageTags": (tags or {}) | ({"Meta Data": meta} if meta else {}),
        "Name": name,
    }


def microscope_tags(tilt, voltage=200e3, seconds=0):
    return {
        "Microscope Info": {
            "Voltage": voltage,
            "Illumination Mode": "STEM",
            "Stage Position": {"Stage Alpha": float(tilt)},
        },
        "DataBar": {
            "Acquisition Date": "11/5/2024",
            "Acquisition Time": f"10:{seconds // 60:02d}:{seconds % 60:02d} AM",
        },
    }
