"""Sizes and colours of the picture. Without a word about it, a reader's dark mode turns the colours."""

from __future__ import annotations

WIDTH = 960
LEFT, RIGHT = 70, 24  # beside the plots
PLOT = WIDTH - LEFT - RIGHT
CUT = 34  # width of idle time that was cut short
SMALL, TEXT, HEAD, TITLE = 11, 12, 14, 20  # font sizes
CLASSES = 6  # classes of errors with a colour of their own; the rest share one

_LIGHT = {
    "paper": "#ffffff", "ink": "#1f2328", "muted": "#57606a", "grid": "#e6e9ed", "axis": "#afb8c1",
    "hatch": "#c3cad2", "band": "#f4f6f8",
    "online": "#2f6fdb", "batch": "#12a594", "spread": "#7c5cd6",
    "p50": "#4c2fb3", "p95": "#8a6be0", "p99": "#b9a4f0",
    "e0": "#d6404d", "e1": "#ef8f1d", "e2": "#2b8fc4", "e3": "#8f5bd0", "e4": "#2f9e6e", "e5": "#c7558f",
    "rest": "#8b949e",
}  # fmt: skip
_DARK = {
    "paper": "#0d1117", "ink": "#e6edf3", "muted": "#9aa4af", "grid": "#232a33", "axis": "#4b5561",
    "hatch": "#3d4652", "band": "#151b23",
    "online": "#5b95f5", "batch": "#2cc5b3", "spread": "#9a7ff0",
    "p50": "#d9ccff", "p95": "#a58af2", "p99": "#8571cc",
    "e0": "#f2656f", "e1": "#f5a742", "e2": "#52b0e3", "e3": "#b48bf0", "e4": "#4fc08d", "e5": "#e57fb3",
    "rest": "#7d8691",
}  # fmt: skip
_FILLED = ("online", "batch", *(f"e{n}" for n in range(CLASSES)), "rest")
_DRAWN = ("p50", "p95", "p99")


def sheet() -> str:
    """The style sheet, and the pattern of idle times."""
    dark = "".join(f"  {rule}\n" for rule in _colours(_DARK))
    return (
        "<style>\n"
        'text{font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","PingFang SC",'
        '"Microsoft YaHei","Noto Sans CJK SC",sans-serif;'
        f"font-size:{TEXT}px;font-variant-numeric:tabular-nums}}\n"
        f".small{{font-size:{SMALL}px}} .head{{font-size:{HEAD}px;font-weight:600}} "
        f".title{{font-size:{TITLE}px;font-weight:700}} tspan.p50{{font-weight:700}}\n"
        "path{fill:none} .grid,.axis{stroke-width:1} .p50{stroke-width:2} .p95,.p99{stroke-width:1.4}\n"
        ".spread{fill-opacity:.13} .idle{fill:url(#idle)} .hit{fill-opacity:0} .hit:hover{fill-opacity:.12}\n"
        + "".join(f"{rule}\n" for rule in _colours(_LIGHT))
        + f"@media (prefers-color-scheme:dark){{\n{dark}}}\n"
        "</style>\n"
        '<defs><pattern id="idle" width="7" height="7" patternUnits="userSpaceOnUse" '
        'patternTransform="rotate(45)"><rect width="7" height="7" class="band"/>'
        '<path d="M0 0V7" class="hatch"/></pattern></defs>'
    )


def _colours(colours: dict[str, str]) -> list[str]:
    fills = {"paper": ".paper", "ink": "text,.hit", "muted": ".muted", "band": ".band", "spread": ".spread"}
    fills |= {name: f".{name}" for name in _FILLED}
    fills |= {name: f"tspan.{name}" for name in _DRAWN}
    strokes = {"grid": ".grid", "axis": ".axis", "hatch": ".hatch"} | {
        name: f"path.{name}" for name in _DRAWN
    }
    filled = [f"{where}{{fill:{colours[name]}}}" for name, where in fills.items()]
    return filled + [f"{where}{{stroke:{colours[name]}}}" for name, where in strokes.items()]
