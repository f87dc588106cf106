# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The real Hub client, led to the Hub on loopback."""

import os
import time
from pathlib import Path

import pytest
import torch
import transformers.utils.hub
from huggingface_hub import constants, create_repo, hf_api, upload_folder

from loopback_hub import LoopbackHub


OWNER, STRANGER = "hf_owner", "hf_stranger"  # tokens
USERS = {OWNER: "org", STRANGER: "elsewhere"}


def connect_to_hub(patch: pytest.MonkeyPatch, hub: LoopbackHub, token: str | None, cache: Path | None = None) -> None:
    """What HF_ENDPOINT, HF_HUB_DISABLE_XET, HF_HUB_CACHE and HF_TOKEN do when the client is imported."""
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.removeprefix(constants.ENDPOINT)
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + template)
    patch.setattr(constants, "ENDPOINT", hub.url)
    patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    patch.setattr(constants, "HF_HUB_OFFLINE", False)
    patch.setattr(constants, "HF_TOKEN_PATH", os.devnull)
    patch.setattr(hf_api.api, "endpoint", hub.url)
    patch.setattr(transformers.utils.hub, "_hf_api", None)
    patch.setattr(time, "sleep", lambda seconds: None)  # before a request is tried again
    if cache is not None:
        patch.setattr(constants, "HF_HUB_CACHE", str(cache))
    if token is None:
        patch.delenv("HF_TOKEN", raising=False)
    else:
        patch.setenv("HF_TOKEN", token)
    hub.requests.clear()


def publish(hub: LoopbackHub, repo_id: str, folder: Path, private: bool = False) -> str:
    """Uploads a folder, and gives the repo's id."""
    with pytest.MonkeyPatch.context() as patch:
        connect_to_hub(patch, hub, OWNER)
        create_repo(repo_id, private=private)
        upload_folder(repo_id=repo_id, folder_path=folder)
    return repo_id


def assert_same_weights(first: torch.nn.Module, second: torch.nn.Module) -> None:
    """Every weight equal, bit for bit."""
    weights, others = first.state_dict(), second.state_dict()
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[name], others[name]) for name in weights)
