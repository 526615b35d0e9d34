"""Facts that travel with the package: the manifest of the published files, where they are, and the paper's curves.

Data and the words about it; nothing here is computed, so that every layer may read it.
"""

from pathlib import Path

PUBLISHED_MANIFEST = Path(__file__).parent / "published_manifest.json"
PAPER_CURVES = Path(__file__).parent / "paper_curves.json"
ARCHIVE_URL = "https://github.com/IntelLabs/spic/archive/640c26c163519f50d4ab2dfa85729ea883fc485d.zip"
"""The repository published with the papers (MIT), as an archive."""
HOW_TO_GET = f"import the published artefacts with: spic import --source {ARCHIVE_URL}"
