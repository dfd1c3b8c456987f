"""Every public signature as a line of text;
`python -m tests.public_api` writes the file that a test compares with."""

import inspect
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import hyperspy_multitomo as mt

FILE = Path(__file__).with_name("public_api.txt")
PACKAGES = (
    "acquisition",
    "alignment",
    "composition",
    "datasets",
    "evidence",
    "inspection",
    "signals",
    "simulation",
    "tomography",
)
OURS = "hyperspy_multitomo"


def _default(value) -> str:
    """Return the default of a parameter as text that is the same in every process."""
    if callable(value):
        return value.__name__
    text = repr(value)
    return type(value).__name__ if " at 0x" in text else text


def _signature(function) -> str:
    """Return the parameters with their defaults, without annotations."""
    parameters = []
    for parameter in inspect.signature(function).parameters.values():
        plain = parameter.replace(annotation=parameter.empty)
        if parameter.default is not parameter.empty:
            plain = f"{plain.replace(default=parameter.empty)}={_default(parameter.default)}"
        parameters.append((parameter.kind, str(plain)))
    words, kinds = [], [kind for kind, _ in parameters]
    for place, (kind, text) in enumerate(parameters):
        if kind is inspect.Parameter.KEYWORD_ONLY and not {*kinds[:place]} & {
            kind,
            inspect.Parameter.VAR_POSITIONAL,
        }:
            words.append("*")
        words.append(text)
    return f"({', '.join(words)})"


def _members(cls: type) -> Iterator[tuple[str, str]]:
    """Yield (name, signature) of what a class of ours has and its bases elsewhere do not define."""
    homes = {name: base for base in reversed(cls.__mro__) for name in vars(base)}
    for name, home in sorted(homes.items()):
        if name.startswith("_") or not home.__module__.startswith(OURS):
            continue
        member = inspect.getattr_static(cls, name)
        if isinstance(member, classmethod | staticmethod):
            member = member.__func__
        if inspect.isfunction(member):
            yield name, _signature(member)
        elif isinstance(member, property):
            yield name, ", settable" if member.fset else ""
        elif inspect.isdatadescriptor(member) or not callable(member):
            yield name, ""


def lines() -> list[str]:
    """Return a line for each public name of the package, its packages and its classes."""
    found = [f"{OURS}.{name}" for name in sorted(mt.__all__)]
    for package in PACKAGES:
        module = import_module(f"{OURS}.{package}")
        for name in sorted(module.__all__):
            value = getattr(module, name)
            where = f"{package}.{name}"
            if inspect.isclass(value):
                takes = "" if issubclass(value, BaseException) else _signature(value)
                found.append(where + takes)
                found += [f"{where}.{member}{text}" for member, text in _members(value)]
            elif inspect.isfunction(value):
                found.append(where + _signature(value))
            else:
                found.append(where)
    return found


if __name__ == "__main__":
    FILE.write_text("\n".join(lines()) + "\n")
