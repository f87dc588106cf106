"""Lets diffusers find LaVIT's pipeline, which the `lavit_hf` package holds."""

from lavit_hf.pipeline_lavit import LaVITPipeline


__all__ = ["LaVITPipeline"]
