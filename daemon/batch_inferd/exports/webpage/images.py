"""An image of a record, as the page shows it."""

from __future__ import annotations

from pathlib import Path

from batch_inferd.images.errors import ImageError
from batch_inferd.images.refs import WEB, path_of, scheme_of, shown


def image(ref: str) -> dict[str, str]:
    """`kind`, `name` and `href`: a file is shown, a web address linked; anything else is only named.

    `href` is empty where there is nothing to open. An address of the web is not loaded by itself: whoever
    serves it would learn who looks at the page.
    """
    scheme = scheme_of(ref)
    name = shown(ref)
    if scheme in WEB:
        return {"kind": "web", "name": name, "href": ref}
    if scheme == "file":
        try:
            return {"kind": "file", "name": name, "href": _address(path_of(ref))}
        except (ImageError, ValueError):
            return {"kind": "other", "name": name, "href": ""}
    return {"kind": "other", "name": name, "href": ""}


def _address(path: str) -> str:
    """Of a file of the machine that shows the page. Raises ValueError for what is none.

    Two slashes or backslashes at the begin of a path name another host, to a browser on Windows, which
    would ask it by itself.
    """
    if path.startswith("//"):
        path = "/" + path.lstrip("/")
    address = Path(path).as_uri()
    if "%5C" in address:
        raise ValueError(path)
    return address
