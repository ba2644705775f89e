"""Write docs/commands.md, the reference of the command line, from the command line itself."""

from pathlib import Path

from lilliput.cli.commands import app

FILE = Path(__file__).with_name("commands.md")
HEAD = "<!-- written by `make docs` from the command line itself: change src/lilliput/cli/ -->\n\n"


def text() -> str:
    """The page as it should be."""
    lines = app.generate_docs(output_format="markdown", usage_name="lilliput").splitlines()
    return HEAD + "\n".join(line.rstrip() for line in lines).strip() + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
