"""MkDocs hook: pages from outside of docs/, links between all pages, and the API reference.

README.md is the home page. A linked file of the repository that is no page is shown as one, under
files/. Nothing is copied into docs/.
"""

import json
import os
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
# File of the repository -> page of the site.
PAGES = {
    "README.md": "index.md",
    "benchmarks/README.md": "measuring.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
PUBLIC = ("apis/*.py", "registry.py", "functional/*.py", "reference.py", "errors.py")
LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(\))")
LANGUAGES = {".py": "python", ".yml": "yaml", ".cff": "yaml", ".md": "markdown"}


def on_config(config: MkDocsConfig) -> None:
    """Add the API reference to the navigation."""
    config.nav.append({"API reference": [{name: page} for name, page in modules().items()]})


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the pages that are not files of docs/."""
    for source, page in PAGES.items():
        add(files, config, page, (ROOT / source).read_text(encoding="utf-8"))
    for name, page in modules().items():
        add(files, config, page, f"# `{name}`\n\n::: {name}\n")
    for path in sorted((ROOT / "docs").glob("*.ipynb")):
        add(files, config, f"{path.stem}.md", notebook_text(path))
    for file in list(files.documentation_pages()):
        for _, link, _, _ in LINK.findall(file.content_string):
            target = repository_path(file.src_uri, link)
            page, there = page_of(target), (ROOT / target).exists()  # MkDocs reports the others
            if there and page.startswith("files/") and not files.get_file_from_path(page):
                add(files, config, page, file_text(target))


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links between files of the repository become links between pages."""
    here = page.file.src_uri
    if here.startswith(("api/", "files/")):
        return markdown

    def rewrite(match: re.Match) -> str:
        start, link, anchor, end = match.groups()
        if "://" in link:
            return match[0]
        target = page_of(repository_path(here, link))
        return f"{start}{os.path.relpath(target, os.path.dirname(here))}{anchor or ''}{end}"

    return LINK.sub(rewrite, markdown)


def add(files: Files, config: MkDocsConfig, page: str, text: str) -> None:
    files.append(File.generated(config, page, content=text))


def modules() -> dict[str, str]:
    """The public modules by their dotted names, and their pages."""
    package = ROOT / "slotcon_plugin"
    paths = [path for pattern in PUBLIC for path in sorted(package.glob(pattern))]
    names = (".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths)
    names = [name.removesuffix(".__init__") for name in names]
    return {name: f"api/{name.removeprefix('slotcon_plugin.')}.md" for name in names}


def repository_path(page: str, link: str) -> str:
    """The path within the repository to which a link of a page leads."""
    sources = {page: source for source, page in PAGES.items()}
    folder = os.path.dirname(sources.get(page, f"docs/{page}"))
    return os.path.normpath(os.path.join(folder, link))


def page_of(path: str) -> str:
    """The page of the site on which a file of the repository is."""
    if path in PAGES:
        return PAGES[path]
    if path.startswith("docs/"):
        return path.removeprefix("docs/").replace(".ipynb", ".md")
    return f"files/{path}.md"


def file_text(path: str) -> str:
    """A page that shows a file, or lists those of a folder."""
    file = ROOT / path
    if file.is_dir():
        names = sorted(str(one.relative_to(file)) for one in file.rglob("*.*") if one.is_file())
        text, language = "\n".join(name for name in names if "__pycache__" not in name), "text"
    else:
        text, language = file.read_text(encoding="utf-8"), LANGUAGES.get(file.suffix, "text")
    return f"# `{path}`\n\n````{language}\n{text}\n````\n"


def notebook_text(path: Path) -> str:
    """The cells of a notebook, and what they printed and drew, in Markdown."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if kind := next((kind for kind in data if kind.startswith("image/")), None):
                image = "".join(data[kind]).replace("\n", "")
                parts.append(f'<img alt="output" src="data:{kind};base64,{image}">')
            elif text := "".join(output.get("text") or data.get("text/plain", ())):
                parts.append(f"```text\n{text}\n```")
    return "\n\n".join(parts)
