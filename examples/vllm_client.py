# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Asks a question about an image, with LaVIT's visual tokenizer running locally and its language model in a vLLM server.

    lavit export-llm lavit-llm
    vllm serve lavit-llm --enable-prompt-embeds --port 8001
    python examples/vllm_client.py cat.jpg "What is on the sofa?"
"""

import argparse
import base64
import io

import torch
from openai import OpenAI

from lavit_hf import LaVITConfig, LaVITForCausalLM, LaVITProcessor, bundled_checkpoint


def load_visual_half(path: str) -> LaVITForCausalLM:
    """A LaVIT without the layers of its language model, because only its embeddings are needed here."""
    config = LaVITConfig.from_pretrained(path)
    config.text_config.num_hidden_layers = 0
    return LaVITForCausalLM.from_pretrained(path, config=config)


@torch.no_grad()
def embed_prompt(image: str, question: str | None, model: LaVITForCausalLM, processor: LaVITProcessor) -> torch.Tensor:
    """The prompt embeddings, `(prompt_length, hidden_size)`: those of the image, followed by those of the text."""
    text = processor.format_question(question) if question else ""
    inputs = processor(images=image, text=text, return_tensors="pt")
    rows = model.get_image_features(inputs.pixel_values.to(model.dtype)).pooler_output
    return model.model.fill_slots(rows, inputs.input_ids).inputs_embeds[0]


def encode(tensor: torch.Tensor) -> str:
    """A tensor in vLLM's format: saved by torch and encoded in base64."""
    file = io.BytesIO()
    torch.save(tensor.clone(), file)
    return base64.b64encode(file.getbuffer()).decode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", help="file or URL of an image")
    parser.add_argument("question", nargs="?", help="question about the image; without one, the image is captioned")
    parser.add_argument("--model", default=None, help="the LaVIT model that was exported; the bundled one by default")
    parser.add_argument("--url", default="http://127.0.0.1:8001/v1", help="URL of the vLLM server")
    parser.add_argument("--max-tokens", type=int, default=24, help="maximum number of tokens to generate")
    arguments = parser.parse_args()

    path = arguments.model or bundled_checkpoint()
    processor = LaVITProcessor.from_pretrained(path)
    embeds = embed_prompt(arguments.image, arguments.question, load_visual_half(path), processor)
    client = OpenAI(base_url=arguments.url, api_key="none")
    completion = client.completions.create(
        model=client.models.list().data[0].id,
        prompt=None,  # replaced by the embeddings
        max_tokens=arguments.max_tokens,
        temperature=0,
        extra_body={
            "prompt_embeds": encode(embeds),
            # Only text ids, as in LaVIT's text mode.
            "allowed_token_ids": list(range(processor.image_start_token_id)),
        },
    )
    clean = processor.post_process_answer if arguments.question else processor.post_process_caption
    print(clean([completion.choices[0].text])[0])


if __name__ == "__main__":
    main()
