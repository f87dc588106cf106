# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Codebook training: k-means initialization, updates by moving averages or gradient, and restart of dead codes."""

import torch
from torch import distributed, nn
from transformers import initialization as init

from ..lavit.configuration_lavit import LaVITVisualTokenizerConfig


class CodebookTrainer(nn.Module):
    """
    The codebook during training: [vector-quantize-pytorch](https://github.com/lucidrains/vector-quantize-pytorch) with
    its state (moving averages, usage, whether k-means has run), which is saved in checkpoints.
    """

    def __init__(self, config: LaVITVisualTokenizerConfig):
        super().__init__()
        by_gradient = config.codebook_update == "gradient"
        self.quantizer = _vector_quantize_class()(
            dim=config.codebook_dim,
            codebook_size=config.codebook_size,
            decay=config.codebook_decay,
            threshold_ema_dead_code=config.codebook_restart_threshold,
            kmeans_init=True,
            use_cosine_sim=not by_gradient,
            learnable_codebook=by_gradient,
            ema_update=not by_gradient,
            rotation_trick=False,
        )

    @property
    def codebook(self) -> torch.Tensor:
        """The current codebook, `(codebook_size, codebook_dim)`."""
        return self.quantizer.codebook

    @property
    def has_started(self) -> bool:
        """Whether the codebook has been initialized with k-means."""
        return bool(self.quantizer._codebook.initted)

    @torch.no_grad()
    def reset(self) -> None:
        """
        Resets everything that was not loaded to the state before training, in which the next rows initialize the
        codebook with k-means.
        """
        # The losses are added to this. It is not saved, so it is undefined after loading.
        init.zeros_(self.quantizer.zero)
        state = self.quantizer._codebook
        init.zeros_(state.embed)
        init.zeros_(state.embed_avg)
        init.ones_(state.cluster_size)
        init.copy_(state.initted, torch.tensor(False))

    @torch.no_grad()
    def start(self, projected: torch.Tensor) -> None:
        """
        Initializes the codebook with k-means on rows.

        Args:
            projected (`torch.Tensor` of shape `(num_rows, codebook_dim)`):
                Projected rows, of unit length.
        """
        self._join_processes()
        self.quantizer._codebook.initted.fill_(False)
        self.quantizer._codebook.init_embed_(projected[None].float())

    def forward(self, projected: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """
        Quantizes rows and, in train mode, updates the codebook with them.

        Args:
            projected (`torch.Tensor` of shape `(total_kept, codebook_dim)`):
                Projected rows, of unit length.

        Returns:
            The rows of the nearest codes with a straight-through gradient, `(total_kept, codebook_dim)`; the codes,
            `(total_kept,)`; and the commitment loss, a scalar.
        """
        self._join_processes()
        with torch.autocast(projected.device.type, enabled=False):
            quantized, codes, commitment = self.quantizer(projected[None].float())
        return quantized[0].to(projected.dtype), codes[0], commitment.mean()

    def _join_processes(self) -> None:
        """Makes the codebook learn from the rows of all processes, even if it was created before these were joined."""
        is_joint = distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
        state = self.quantizer._codebook
        if state.use_ddp == is_joint:
            return
        from vector_quantize_pytorch import vector_quantize_pytorch as library

        state.use_ddp = is_joint
        sample = library.sample_vectors_distributed if is_joint else library.batched_sample_vectors
        state.sample_fn = state.replace_sample_fn = sample
        state.all_reduce_fn = state.kmeans_all_reduce_fn = distributed.all_reduce if is_joint else library.noop


def _vector_quantize_class() -> type[nn.Module]:
    try:
        from vector_quantize_pytorch import VectorQuantize
    except ImportError as error:
        raise ImportError(
            "training a codebook needs vector-quantize-pytorch. Run `pip install 'lavit_hf[training]'`."
        ) from error
    return VectorQuantize
