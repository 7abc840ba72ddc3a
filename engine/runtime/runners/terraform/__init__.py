"""Terraform: a plan is made, judged, and exactly it is applied. `runner` is on the host, `inside` runs in the VM."""

from engine.runtime.runners.terraform.runner import TerraformRunner

__all__ = ["TerraformRunner"]
