"""Draws the pictures of the README and these pages: `python docs/draw_images.py demo_output` after `make demo`."""

import doctest
import shutil
import sys
from pathlib import Path

IMAGES = Path(__file__).parent / "images"
README = Path(__file__).parent.parent / "README.md"


def readme_model():
    """The bound model of the README: its code, up to the sampling."""
    names = {}
    for example in doctest.DocTestParser().get_examples(README.read_text()):
        if "ck.sample" in example.source:
            return names["bound"]
        exec(example.source, names)
    raise SystemExit("README.md does not sample.")


def main():
    """Draw the README's diagram and take over the demo's pictures."""
    readme_model().diagram(saveto=str(IMAGES / "study.png"))
    for name in ("galaxies.png", "sizes.png", "ranks.png", "diagram.png") if len(sys.argv) > 1 else ():
        shutil.copy(Path(sys.argv[1]) / name, IMAGES / name)


if __name__ == "__main__":
    main()
