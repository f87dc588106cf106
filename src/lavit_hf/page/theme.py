# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Theme of the page: gradio's base theme in calm colors, with fonts included in gradio."""

import gradio as gr


FULL_WEIGHTS = (400, 700)  # of gradio's fonts; other weights lack letters

# Columns wrap automatically; only the maximum width of the page is in pixels.
CSS = """
.gradio-container .app { max-width: 72rem !important; margin: 0 auto; }
#lavit-head { padding: 0.5rem 0; }
.plain .html-container { padding: 0; }
#lavit-head h1 { font-size: 1.75rem; line-height: 1.2; margin: 0; }
#lavit-head p { color: var(--body-text-color-subdued); margin: 0.25rem 0 0; overflow-wrap: anywhere; }
button[role="tab"][aria-selected="true"] { color: var(--body-text-color) !important; font-weight: 700; }

.note, .note p { color: var(--body-text-color-subdued); font-size: var(--text-sm); margin: 0; }
.result textarea { font-size: 1.2rem; }
.bottom { align-items: flex-end; }

/* Labels stand above pictures rather than on them, and small pictures are enlarged. */
.picture { padding-top: 1.75rem !important; }
.picture .image-frame, .picture .image-container { width: 100%; height: 100%; }
.picture img { width: 100%; height: 100%; object-fit: contain; }

/* Galleries are as high as their pictures ask for. */
.picture .grid-wrap { height: auto !important; min-height: 0; max-height: none !important; }
#draw-pictures button.center .wrap { min-height: 9rem; }
.small .grid-container { grid-template-columns: repeat(auto-fill, minmax(6.5rem, 1fr)) !important; padding-top: 0; }
.examples .gallery:not(.container) { display: grid; grid-template-columns: repeat(8, 1fr); }
.examples .gallery-item, .examples .gallery-item span { display: block; width: 100%; }
.examples .container.gallery { display: block; width: 100%; height: auto; aspect-ratio: 1; }
.examples .container.gallery { max-width: none; max-height: none; }
.examples .container img { width: 100%; height: 100%; object-fit: contain; }
@media (max-width: 40rem) { .examples .gallery:not(.container) { grid-template-columns: repeat(4, 1fr); } }

/* What the model draws is shown at its size, and smaller only where there is no room. */
.drawn img { object-fit: scale-down; }
.drawn .grid-container {
    grid-template-columns: repeat(auto-fill, minmax(min(100%, calc(var(--picture-size) + 2rem)), 1fr)) !important;
}

/* Texts to tap. */
.chips .gallery { display: flex; flex-wrap: wrap; gap: 0.5rem; }

.problem p {
    color: var(--error-text-color); background: var(--error-background-fill); overflow-wrap: anywhere;
    border: 1px solid var(--error-border-color); border-radius: var(--radius-lg); margin: 0; padding: 0.5rem 0.75rem;
}

.steps { list-style: none; margin: 0; padding: 0; }
.steps li { display: flex; flex-wrap: wrap; gap: 0 1rem; padding: 0.5rem 0; }
.steps li + li { border-top: 1px solid var(--border-color-primary); }
.steps b { flex: 0 0 9rem; }
.steps span { flex: 1 1 14rem; }
"""


# Replace gradio's texts in English browsers.
WORDS = {"upload_text.drop_gallery": "Drop images here", "upload_text.click_to_upload": "choose files"}


def make_theme() -> gr.themes.Base:
    """Creates the theme. The page serves all of its files itself, so that it works offline."""
    return gr.themes.Base(
        primary_hue="amber",
        secondary_hue="amber",
        neutral_hue="stone",
        font=(gr.themes.LocalFont("IBM Plex Sans", weights=FULL_WEIGHTS), "system-ui", "sans-serif"),
        font_mono=(gr.themes.LocalFont("IBM Plex Mono", weights=FULL_WEIGHTS), "ui-monospace", "monospace"),
        radius_size="lg",
    ).set(
        button_primary_background_fill="*primary_400",
        button_primary_background_fill_dark="*primary_400",
        button_primary_background_fill_hover="*primary_300",
        button_primary_background_fill_hover_dark="*primary_300",
        button_primary_text_color="*neutral_950",
        button_primary_text_color_dark="*neutral_950",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
    )
