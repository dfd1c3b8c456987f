# SPDX-License-Identifier: GPL-3.0-or-later
"""The scripts of this folder are cells of notebooks, which `test_browser` serves:
they are no modules to import."""

collect_ignore_glob = ["*.py"]
