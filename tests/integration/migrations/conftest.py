"""Databases as earlier releases left them."""

from __future__ import annotations

from tests.integration.engine.conftest import postgres, url

__all__ = ["postgres", "url"]
