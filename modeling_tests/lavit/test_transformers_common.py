# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""transformers' own common tests on our models, image processors and processor."""

import unittest
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig

from conftest import tiny_visual_config
from lavit_hf import (
    LaVITConfig,
    LaVITForCausalLM,
    LaVITImageProcessor,
    LaVITImageProcessorPil,
    LaVITModel,
    LaVITProcessor,
    LaVITVisualTokenizer,
    build_tokenizer,
    load_sentencepiece_tokenizer,
)
from transformers_suite import add_transformers_tests_to_path


add_transformers_tests_to_path()

from tests.generation.test_utils import GenerationTesterMixin  # noqa: E402
from tests.test_image_processing_common import ImageProcessingTester, ImageProcessingTestMixin  # noqa: E402
from tests.test_modeling_common import ModelTesterMixin, floats_tensor, ids_tensor  # noqa: E402
from tests.test_processing_common import ProcessorTesterMixin  # noqa: E402


pytestmark = pytest.mark.slow  # not each of them, but together


class LaVITModelTester:
    """Builds what the common tests ask for: one image and some text in each sample."""

    batch_size = 7  # as many as the eager against sdpa tests want; they would fill up with random ids
    num_channels = 3
    image_size = 32
    text_vocab_size = 50
    codebook_size = 24
    hidden_size = 32
    num_hidden_layers = 2
    num_attention_heads = 2
    kept = 5  # a third of 16 patches
    seq_length = 2 + kept + 5
    is_training = True

    def __init__(self, parent):
        self.parent = parent

    def get_config(self):
        text_config = LlamaConfig(
            vocab_size=self.text_vocab_size + 2 + self.codebook_size,
            hidden_size=self.hidden_size,
            intermediate_size=64,
            num_hidden_layers=self.num_hidden_layers,
            num_attention_heads=self.num_attention_heads,
            max_position_embeddings=64,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )
        # A fixed budget, so that a batch needs no padding that its single rows would lack.
        visual_config = tiny_visual_config(0.02, selection="ratio", codebook_size=self.codebook_size)
        return LaVITConfig(text_config=text_config, visual_tokenizer_config=visual_config, understanding_selector=True)

    def prepare_config_and_inputs_for_common(self):
        config = self.get_config()
        input_ids = ids_tensor([self.batch_size, self.seq_length - self.kept], self.text_vocab_size - 3) + 3
        input_ids[:, 0], input_ids[:, 1] = config.image_start_token_id, config.image_end_token_id
        inputs = {
            "pixel_values": floats_tensor([self.batch_size, self.num_channels, self.image_size, self.image_size]),
            "input_ids": input_ids,
            "attention_mask": torch.ones_like(input_ids),
        }
        return config, inputs


class SameOutputsTest:
    """In place of transformers' own test of this name, which subtracts outputs, and keep masks are booleans."""

    def test_model_outputs_equivalence(self):
        """A tuple holds what the output has by name."""
        config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
        for model_class in self.all_model_classes:
            model = model_class(config).eval()
            prepared = self._prepare_for_class(inputs, model_class)
            with torch.no_grad():
                by_name, by_place = (model(**prepared, return_dict=return_dict) for return_dict in (True, False))
            assert isinstance(by_place, tuple) and len(by_place) == len(by_name.to_tuple())
            for first, second in zip(_tensors(by_name.to_tuple()), _tensors(by_place), strict=True):
                assert torch.equal(first, second)


def _tensors(outputs) -> list[torch.Tensor]:
    """All tensors of nested outputs, in order."""
    if isinstance(outputs, torch.Tensor):
        return [outputs]
    if isinstance(outputs, Mapping):
        outputs = outputs.values()
    return [tensor for part in outputs for tensor in _tensors(part)] if isinstance(outputs, Iterable) else []


class LaVITCommonTests(SameOutputsTest, ModelTesterMixin):
    additional_model_inputs = ["pixel_values"]
    test_resize_embeddings = False  # image ids stand behind the text's and must stay there
    skip_test_image_features_output_shape = True  # looks for a `vision_config`
    _is_composite = True

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        # The mixin gives labels to the classes in transformers' own mappings only.
        inputs_dict = super()._prepare_for_class(inputs_dict, model_class, return_labels=return_labels)
        return {**inputs_dict, "labels": inputs_dict["input_ids"]} if return_labels else inputs_dict

    def _image_features_get_expected_num_hidden_states(self, model_tester=None):
        return self.model_tester.get_config().visual_tokenizer_config.encoder_config.num_hidden_layers + 1

    def _image_features_get_expected_num_attentions(self, model_tester=None):
        return self.model_tester.get_config().visual_tokenizer_config.encoder_config.num_hidden_layers


class LaVITForCausalLMTest(LaVITCommonTests, GenerationTesterMixin, unittest.TestCase):
    all_model_classes = (LaVITForCausalLM,)

    def check_training_gradient_checkpointing(self, gradient_checkpointing_kwargs=None):
        # test_modeling_lavit.py compares the gradients with and without.
        self.skipTest("It watches the first layer, which is the frozen encoder's and is never trained")

    def setUp(self):
        self.model_tester = LaVITModelTester(self)


class LaVITBareModelTester(LaVITModelTester):
    is_training = False  # there is no loss without a head


class LaVITModelTest(LaVITCommonTests, unittest.TestCase):
    all_model_classes = (LaVITModel,)

    def setUp(self):
        self.model_tester = LaVITBareModelTester(self)

    def test_reverse_loading_mapping(self):
        # As for transformers' own bare models, whose names in a repo are those that they have in memory.
        super().test_reverse_loading_mapping(skip_base_model=True)


class VisualTokenizerModelTester:
    """Builds what the common tests ask for."""

    batch_size = 7
    num_channels = 3
    image_size = 32
    hidden_size = 32
    num_hidden_layers = 2
    num_attention_heads = 2
    seq_length = 16 + 1  # the encoder's patches and its class token
    is_training = False  # the training loss needs a detokenizer

    def __init__(self, parent):
        self.parent = parent

    def prepare_config_and_inputs_for_common(self):
        pixel_values = floats_tensor([self.batch_size, self.num_channels, self.image_size, self.image_size])
        return tiny_visual_config(0.02, selection="ratio"), {"pixel_values": pixel_values}


class LaVITVisualTokenizerTest(SameOutputsTest, ModelTesterMixin, unittest.TestCase):
    all_model_classes = (LaVITVisualTokenizer,)
    test_resize_embeddings = False  # there is no vocabulary of text

    def setUp(self):
        self.model_tester = VisualTokenizerModelTester(self)

    def test_model_get_set_embeddings(self):
        """As transformers' vision models have it: the input embeddings are a module, and there are no others."""
        config, _ = self.model_tester.prepare_config_and_inputs_for_common()
        model = LaVITVisualTokenizer(config)
        self.assertIsInstance(model.get_input_embeddings(), torch.nn.Module)
        self.assertIsNone(model.get_output_embeddings())

    @unittest.skip("The encoder is frozen, and its hidden states have no gradient")
    def test_retain_grad_hidden_states_attentions(self):
        pass


class LaVITImageProcessingTester(ImageProcessingTester):
    """Builds what the common tests ask for."""

    def __init__(self, parent):
        super().__init__(parent, max_resolution=80, size={"height": 20, "width": 20})

    def _get_image_processing_classes(self):
        return {"pil": LaVITImageProcessorPil, "torchvision": LaVITImageProcessor}


class LaVITImageProcessingTest(ImageProcessingTestMixin, unittest.TestCase):
    image_processor_tester_class = LaVITImageProcessingTester

    @unittest.skip("LaVIT's encoder sees RGB only, so that an image of four channels loses its alpha")
    def test_call_numpy_4_channels(self):
        pass


class LaVITProcessingTest(ProcessorTesterMixin, unittest.TestCase):
    processor_class = LaVITProcessor

    @classmethod
    def _setup_tokenizer(cls):
        folder = Path(__file__).parents[1] / "golden" / "original" / "language_model"
        return build_tokenizer(load_sentencepiece_tokenizer(folder), codebook_size=512)

    @classmethod
    def _setup_image_processor(cls):
        return LaVITImageProcessor(size=28)
