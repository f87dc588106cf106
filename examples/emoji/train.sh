#!/usr/bin/env bash
# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
# Trains a checkpoint like the bundled one from raw drawings. Resumes if interrupted.
#
#     examples/emoji/train.sh [python [arguments for all training scripts]...]
#
# `--max_steps 2` does a trial run of all steps.
set -euo pipefail
cd "$(dirname "$0")/../.."
PYTHON=${1:-python}
shift $(( $# > 0 ))
WORK=.cache/emoji

step() { echo "== $1"; }

step "data"
[ -d "$WORK/set" ] || "$PYTHON" examples/emoji/prepare.py --output "$WORK/set" --cache "$WORK/packages"
[ -d "$WORK/sheets" ] || "$PYTHON" examples/emoji/prepare_sheets.py --data "$WORK/set" --output "$WORK/sheets" --views 16
[ -d "$WORK/text-tokenizer" ] || "$PYTHON" examples/emoji/text_tokenizer.py --data "$WORK/set" --sheets "$WORK/sheets" \
    --output "$WORK/text-tokenizer"
[ -d "$WORK/stage-0" ] || "$PYTHON" examples/emoji/initialize.py --data "$WORK/set" --output "$WORK/stage-0" --cache "$WORK/packages"
for split_views in "train 20" "validation 1"; do
    read -r split views <<< "$split_views"
    "$PYTHON" examples/emoji/cache_features.py --data "$WORK/set" --sheets "$WORK/sheets" --split "$split" \
        --num-views "$views" --visual-tokenizer "$WORK/stage-0" --output "$WORK/features/$split"
    "$PYTHON" examples/emoji/view_pictures.py --data "$WORK/set" --sheets "$WORK/sheets" --split "$split" \
        --num-views "$views" --output "$WORK/pictures/$split"
done

step "stage 1: the selector, the codes, and the codes on the images that LaVIT learns to write"
"$PYTHON" examples/train_token_selection.py examples/runs/emoji_token_selection.yaml "$@"
"$PYTHON" examples/train_visual_tokenizer.py examples/runs/emoji_visual_tokenizer.yaml "$@"
[ -f "$WORK/written/probe.safetensors" ] || "$PYTHON" examples/emoji/choose_written.py --features "$WORK/features" \
    --pictures "$WORK/pictures" --output "$WORK/written"
"$PYTHON" examples/train_visual_tokenizer.py examples/runs/emoji_written_codes.yaml "$@"

step "stage 2: the language model"
"$PYTHON" examples/pretokenize.py examples/runs/emoji_pretokenize.yaml
"$PYTHON" examples/pretrain.py examples/runs/emoji_pretrain.yaml "$@"

step "the pixel decoder"
"$PYTHON" examples/emoji/fit_autoencoder.py --data "$WORK/set" --output "$WORK/autoencoder"
"$PYTHON" examples/train_patch_autoencoder.py examples/runs/emoji_patch_autoencoder.yaml "$@"
for split in train validation; do
    "$PYTHON" examples/emoji/rebuild_features.py --tokens "$WORK/tokens" --split "$split" \
        --pictures "$WORK/pictures" --tokenizer "$WORK/visual-tokenizer" --output "$WORK/rebuilt/$split"
done
"$PYTHON" examples/train_pixel_decoder.py examples/runs/emoji_pixel_decoder.yaml "$@"

step "the checkpoint, its evaluation and its model card"
"$PYTHON" examples/emoji/bundle.py --language-model "$WORK/language-model" --pixel-decoder "$WORK/pixel-decoder" \
    --output "$WORK/lavit-emoji"
"$PYTHON" examples/emoji/evaluate.py --model "$WORK/lavit-emoji" --data "$WORK/set" --sheets "$WORK/sheets" \
    --output "$WORK/evaluation" --cache "$WORK/looks"
"$PYTHON" examples/emoji/show_kept.py --model "$WORK/lavit-emoji" --data "$WORK/set" --sheets "$WORK/sheets" \
    --output "$WORK/lavit-emoji/kept-patches.jpg"
"$PYTHON" examples/emoji/card.py --model "$WORK/lavit-emoji" --evaluation "$WORK/evaluation/evaluation.json"
