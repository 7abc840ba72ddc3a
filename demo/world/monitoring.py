"""Prometheus and Alertmanager (Debian's packages): their configuration, and what they say.

Short intervals: a person watches.
"""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from engine.domain.errors import Unavailable

ALERT = "CheckoutDiskFilling"
THRESHOLD = 0.85


def prometheus_config(alertmanager: str, targets: Mapping[str, str]) -> str:
    """prometheus.yml. `alertmanager` is HOST:PORT; `targets` env -> HOST:PORT."""
    return _yaml(
        {
            "global": {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yml"],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
            "scrape_configs": [
                {
                    "job_name": "checkout",
                    "static_configs": [
                        {"targets": [address], "labels": {"env": env, "service": "checkout", "instance": env}}
                        for env, address in targets.items()
                    ],
                }
            ],
        }
    )


def rules() -> str:
    """rules.yml: production only; staging is where the fix is tried, nobody is woken for it."""
    return _yaml(
        {
            "groups": [
                {
                    "name": "checkout",
                    "rules": [
                        {
                            "alert": ALERT,
                            "expr": f'checkout_disk_used_ratio{{env="production"}} > {THRESHOLD}',
                            "for": "3s",
                            "labels": {"severity": "critical", "service": "checkout", "mountpoint": "/srv"},
                            "annotations": {
                                "summary": "checkout's disk in {{ $labels.env }} is "
                                "{{ $value | humanizePercentage }} full",
                                "description": "/srv holds checkout's data and its log.",
                            },
                        }
                    ],
                }
            ]
        }
    )


def alertmanager_config(url: str, token_file: Path) -> str:
    """alertmanager.yml. A redirect would turn the POST into a GET and count as success: never followed."""
    return _yaml(
        {
            "route": {
                "receiver": "signalbox",
                "group_by": ["alertname", "service", "env"],
                "group_wait": "0s",
                "group_interval": "2s",
                "repeat_interval": "5m",
            },
            "receivers": [
                {
                    "name": "signalbox",
                    "webhook_configs": [
                        {
                            "url": url,
                            "send_resolved": True,
                            "http_config": {
                                "follow_redirects": False,
                                "authorization": {"type": "Bearer", "credentials_file": str(token_file)},
                            },
                        }
                    ],
                }
            ],
        }
    )


def prometheus_argv(folder: Path, port: int) -> list[str]:
    """The command of a Prometheus whose configuration lies in `folder`."""
    return [
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--storage.tsdb.retention.time=6h",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]


def alertmanager_argv(folder: Path, port: int) -> list[str]:
    """The command of an Alertmanager whose configuration lies in `folder`; it gossips with nobody."""
    return [
        "prometheus-alertmanager",
        f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
        "--log.level=warn",
    ]


def get(url: str, timeout_s: float = 5, ca: Path | None = None) -> bytes:
    """GET of one of the world's own loopback URLs, of https verified with `ca`; raises Unavailable."""
    if not url.startswith(("http://127.0.0.1:", "https://127.0.0.1:")):
        raise Unavailable(f"{url} is not the world's", "")
    trusted = ssl.create_default_context(cafile=ca) if ca else None
    try:
        with urllib.request.urlopen(url, timeout=timeout_s, context=trusted) as answer:  # noqa: S310 - one host, above
            body: bytes = answer.read(4 << 20)
            return body
    except (OSError, urllib.error.HTTPError) as error:
        raise Unavailable(f"{url}: {error}", "") from None


def firing(prometheus_url: str) -> bool:
    """Whether Prometheus says that the alert fires."""
    answer: dict[str, Any] = json.loads(get(f"{prometheus_url}/api/v1/alerts"))
    return any(
        alert["labels"]["alertname"] == ALERT and alert["state"] == "firing" for alert in answer["data"]["alerts"]
    )


def _yaml(value: object) -> str:
    return yaml.safe_dump(value, sort_keys=False, width=110)
