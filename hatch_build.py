"""What a wheel carries beside the code: under spic/root/, dict.yaml and the weights and tables of the embedded benchmark.

An editable install carries none of it; spic/points.py finds the checkout's own.
"""

from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDERS = ("Weights/scenes", "Freq_tab/scenes")
LEFT_OUT = "rivals"  # the learned rivals of the scenes: half of all bytes, and only the figures of the project need them


class Root(BuildHookInterface):
    """Lays the files out as in a checkout, since dict.yaml and the lists of checksums name them relative to the root."""

    def initialize(self, version: str, build_data: dict) -> None:
        if version != "editable":
            for path in self._files():
                build_data["force_include"][str(path)] = f"spic/root/{path.relative_to(self.root)}"

    def _files(self):
        root = Path(self.root)
        yield root / "dict.yaml"
        for folder in FOLDERS:
            yield from sorted(path for path in (root / folder).rglob("*") if path.is_file() and path.parent.name != LEFT_OUT)
