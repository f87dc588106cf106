# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""How the codebook learns: k-means start, moving averages or gradient, restart of dead codes."""

import torch
from torch import distributed, nn
from transformers import initialization as init

from ..lavit.configuration_lavit import LaVITVisualTokenizerConfig


class CodebookTrainer(nn.Module):
    """
    The codebook while it is trained: [vector-quantize-pytorch](https://github.com/lucidrains/vector-quantize-pytorch)
    with its state (moving averages, usage, k-means started or not), which is saved with a checkpoint.
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
        """The codes as they stand, `(codebook_size, codebook_dim)`."""
        return self.quantizer.codebook

    @property
    def has_started(self) -> bool:
        """Whether k-means has given the codes their first values."""
        return bool(self.quantizer._codebook.initted)

    @torch.no_grad()
    def reset(self) -> None:
        """
        Sets the state before training, in which the next rows start the codebook by k-means; all but what was loaded.
        """
        # What the losses are added to; it is not saved, so that loading leaves it undefined.
        init.zeros_(self.quantizer.zero)
        state = self.quantizer._codebook
        init.zeros_(state.embed)
        init.zeros_(state.embed_avg)
        init.ones_(state.cluster_size)
        init.copy_(state.initted, torch.tensor(False))

    @torch.no_grad()
    def start(self, projected: torch.Tensor) -> None:
        """
        Gives the codes their first values, by k-means on rows.

        Args:
            projected (`torch.Tensor` of shape `(num_rows, codebook_dim)`):
                Projected rows, of unit length.
        """
        self._join_processes()
        self.quantizer._codebook.initted.fill_(False)
        self.quantizer._codebook.init_embed_(projected[None].float())

    def forward(self, projected: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """
        Args:
            projected (`torch.Tensor` of shape `(total_kept, codebook_dim)`):
                Projected rows, of unit length.

        Returns:
            The nearest codes' rows with the gradient passed straight through, `(total_kept, codebook_dim)`; the codes,
            `(total_kept,)`; and the commitment loss, a scalar. In train mode the codebook has learned from the rows.
        """
        self._join_processes()
        with torch.autocast(projected.device.type, enabled=False):
            quantized, codes, commitment = self.quantizer(projected[None].float())
        return quantized[0].to(projected.dtype), codes[0], commitment.mean()

    def _join_processes(self) -> None:
        """Lets the codebook learn from the rows of all processes, also where it was made before these had met."""
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
