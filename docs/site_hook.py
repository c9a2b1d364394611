"""MkDocs' hook: what the pages link to outside of docs/ becomes part of the site, so that every link leads somewhere.

A Markdown file becomes a page (`../CHANGELOG.md` is `changes.md`), any other file a page with its text.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
LINK = re.compile(r"\]\((\.\./[^)#\s]+)(#[^)\s]*)?\)")
CHANGES = ("CHANGELOG.md", "changes.md")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each file outside of docs/ that a page links to."""
    linked = {CHANGES[0]}
    for page in files.documentation_pages():
        linked |= {_outside(target) for target, _ in LINK.findall(page.content_string)}
    for path in sorted(linked):
        text = (ROOT / path).read_text(encoding="utf-8") if (ROOT / path).is_file() else None
        if text is not None and _page(path) not in files.src_uris:
            inclusion = InclusionLevel.UNDEFINED if path in CHANGES else InclusionLevel.NOT_IN_NAV
            files.append(File.generated(config, _page(path), content=_as_page(path, text), inclusion=inclusion))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links that leave docs/ to those pages."""
    if page.file.generated_by:
        return markdown
    return LINK.sub(lambda match: f"]({_page(_outside(match[1]))}{match[2] or ''})", markdown)


def _outside(target: str) -> str:
    """The path in the repository of a link on a page of docs/."""
    return posixpath.normpath(posixpath.join("docs", target))


def _page(path: str) -> str:
    """Where the page of a file of the repository lies in the site."""
    if path == CHANGES[0]:
        return CHANGES[1]
    return f"source/{path}" if path.endswith(".md") else f"source/{path}.md"


def _as_page(path: str, text: str) -> str:
    """The file as Markdown; links in the project's other Markdown files stay words, since they lead out of the site."""
    if path.endswith(".md"):
        return re.sub(r"(?<!!)\[([^\]]+)\]\((?!https?://|#)[^)]+\)", r"\1", text)
    return f"# {path}\n\n````{Path(path).suffix[1:]}\n{text}\n````\n"
