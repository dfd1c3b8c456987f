"""The public signatures are those in `public_api.txt`, so that a change of them shows in a diff."""

from public_api import FILE, lines


def test_public_signatures_are_those_on_file():
    """After a change that is meant, `python -m tests.public_api` writes the file anew."""
    found, written = lines(), FILE.read_text().splitlines()
    new, gone = (
        [line for line in found if line not in set(written)],
        [line for line in written if line not in set(found)],
    )
    assert not new + gone, "\n".join(
        ["public_api.txt lacks:", *new, "and has what is gone:", *gone]
    )
    assert found == written


def test_a_changed_signature_is_seen(monkeypatch):
    from hyperspy_multitomo import TiltSeriesEDS, tomography

    monkeypatch.setattr(TiltSeriesEDS, "bin", lambda self, factor=3: None)
    monkeypatch.setattr(tomography, "sirt", lambda A, projections: None)
    changed = set(lines()) - set(FILE.read_text().splitlines())
    bins = {f"signals.{lazy}TiltSeriesEDS.bin(self, factor=3)" for lazy in ("", "Lazy")}
    assert changed == {*bins, "tomography.sirt(A, projections)"}
