# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Finds the drawings of a style in its package and renders them.

Three layouts are supported:
- `"datasource"`: `emoji-datasource-*`, PNG files listed in an `emoji.json` that specifies which are the artist's own;
- `"files"`: image files named by codepoints;
- `"iconify"`: SVG bodies in an `icons.json`, matched by codepoints if there is a `chars.json`, otherwise by name.
"""

import io
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import resvg_py
from PIL import Image

from .concepts import Concept, normalize_codepoints
from .packages import Style, read_members


SVG_ROOT = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
UNREADABLE = (OSError, ValueError, SyntaxError)  # what Pillow and resvg raise for broken images


def find_drawings(style: Style, archive: Path, concepts: dict[str, Concept]) -> dict[str, tuple[str, bytes]]:
    """
    Finds the drawings of a style.

    Args:
        style (`Style`): The style.
        archive (`Path`): Its package.
        concepts (`dict[str, Concept]`): Concepts to find, by codepoints.

    Returns:
        `dict[str, tuple[str, bytes]]`: For each concept that was found, its path or icon name in the package, and the
        image: PNG, WebP or SVG, not yet decoded.

    Raises:
        `ValueError`: If the layout is unknown, or the package does not have this layout.
    """
    if style.layout not in LAYOUTS:
        raise ValueError(f"Style {style.name} has the layout {style.layout!r}. Use one of {', '.join(LAYOUTS)}.")
    drawings = LAYOUTS[style.layout](style, archive, concepts.values())
    return {codepoints: drawings[codepoints] for codepoints in concepts if codepoints in drawings}


def render(picture: bytes, size: int) -> Image.Image:
    """
    Renders an image on a white background, centered and as large as possible.

    Args:
        picture (`bytes`): PNG, WebP or SVG.
        size (`int`): Width and height, in pixels.

    Returns:
        `PIL.Image.Image`: RGB, `size` x `size`.

    Raises:
        `ValueError`: If the image is broken, or entirely white.
    """
    return render_with_mask(picture, size)[0]


def render_with_mask(picture: bytes, size: int) -> tuple[Image.Image, Image.Image]:
    """
    Renders an image like [`render`], together with its mask.

    Args:
        picture (`bytes`): PNG, WebP or SVG.
        size (`int`): Width and height, in pixels.

    Returns:
        `tuple[PIL.Image.Image, PIL.Image.Image]`: The image on white, RGB, and the opacity of each pixel, in gray
        levels from 0 (background) to 255 (opaque).

    Raises:
        `ValueError`: If the image is broken, or entirely white.
    """
    try:
        if picture.startswith(b"<svg"):
            picture = bytes(resvg_py.svg_to_bytes(svg_string=picture.decode(), skip_system_fonts=True, width=size))
        drawing = Image.open(io.BytesIO(picture)).convert("RGBA")
    except UNREADABLE as error:
        raise ValueError(f"cannot be read ({error})") from error
    image, mask = _on_square(drawing, "white", drawing), _on_square(drawing.getchannel("A"), 0)
    if image.getextrema() == ((255, 255),) * 3:
        raise ValueError("is blank")
    return _resize(image, size), _resize(mask, size)


def _on_square(layer: Image.Image, background: str | int, mask: Image.Image | None = None) -> Image.Image:
    side = max(layer.size)
    square = Image.new("RGB" if layer.mode == "RGBA" else "L", (side, side), background)
    square.paste(layer, ((side - layer.width) // 2, (side - layer.height) // 2), mask=mask)
    return square


def _resize(image: Image.Image, size: int) -> Image.Image:
    return image if image.width == size else image.resize((size, size), Image.Resampling.BICUBIC)


def _datasource_drawings(style: Style, archive: Path, concepts: Iterable[Concept]) -> dict[str, tuple[str, bytes]]:
    files = read_members(archive, style.folder, "emoji.json")
    if "emoji.json" not in files:
        raise ValueError(f"{archive} has no emoji.json, which layout {style.layout!r} needs.")
    own = f"has_img_{Path(style.folder).parts[1]}"  # other images are another artist's, included to fill gaps
    paths = {
        entry["unified"]: f"{style.folder}/{entry['image']}" for entry in json.loads(files["emoji.json"]) if entry[own]
    }
    return {normalize_codepoints(key): (path, files[path]) for key, path in paths.items() if path in files}


def _file_drawings(style: Style, archive: Path, concepts: Iterable[Concept]) -> dict[str, tuple[str, bytes]]:
    files = read_members(archive, style.folder)
    return {normalize_codepoints(Path(path).stem): (path, picture) for path, picture in files.items()}


def _iconify_drawings(style: Style, archive: Path, concepts: Iterable[Concept]) -> dict[str, tuple[str, bytes]]:
    files = read_members(archive, "icons.json", "chars.json")
    if "icons.json" not in files:
        raise ValueError(f"{archive} has no icons.json, which layout {style.layout!r} needs.")
    icons = json.loads(files["icons.json"])
    codepoints = {normalize_codepoints(key): name for key, name in json.loads(files.get("chars.json", b"{}")).items()}
    available = [*icons["icons"], *icons.get("aliases", {})]
    unknown = sorted(style.icons.keys() - set(available))
    if unknown:
        raise ValueError(f"Style {style.name} lists icons that are not in {archive}: {', '.join(unknown)}.")
    names = codepoints or _match_names(available, concepts, style.icons)
    return {key: (name, _svg(icons, name)) for key, name in names.items()}


def _match_names(icons: Iterable[str], concepts: Iterable[Concept], known: dict[str, str]) -> dict[str, str]:
    """
    Matches concepts with icons by name: CLDR's name first, then Unicode's. Each icon is used only once. Of several
    numbered icons (`penguin-1`, `penguin-2`), the first one is used.
    """
    concepts, icons = list(concepts), [icon for icon in icons if icon not in known]
    matches = {normalize_codepoints(codepoints): icon for icon, codepoints in known.items() if codepoints}
    free = {_letters(icon.removesuffix("-1")): icon for icon in icons if icon.endswith("-1")}
    free.update((_letters(icon), icon) for icon in icons)
    for rank in range(2):
        for concept in concepts:
            name = _letters(concept.aliases[rank]) if rank < len(concept.aliases) else None
            if concept.codepoints not in matches and name in free:
                matches[concept.codepoints] = free.pop(name)
    return matches


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower().replace("ñ", "n"))


def _svg(icons: dict, name: str) -> bytes:
    icon = {**icons, **_resolve(icons, name)}
    left, top, width, height = (icon.get(key, 0) for key in ("left", "top", "width", "height"))
    side = max(width, height)
    view = f"{left - (side - width) / 2} {top - (side - height) / 2} {side} {side}"
    flip = f' transform="translate({2 * left + width} 0) scale(-1 1)"' if icon.get("hFlip") else ""
    return (
        f'<svg {SVG_ROOT} viewBox="{view}" width="{side}" height="{side}"><g{flip}>{icon["body"]}</g></svg>'.encode()
    )


def _resolve(icons: dict, name: str) -> dict:
    """An icon; for an alias, its parent icon with the changes of the alias."""
    if name in icons["icons"]:
        return icons["icons"][name]
    alias = icons["aliases"][name]
    return {**_resolve(icons, alias["parent"]), **alias}


LAYOUTS: dict[str, Callable] = {
    "datasource": _datasource_drawings,
    "files": _file_drawings,
    "iconify": _iconify_drawings,
}
