"""Prometheus's and Alertmanager's own tools accept the world's configuration, and the rule means what it says."""

import subprocess
from pathlib import Path

import pytest

from demo.world import monitoring

RULE_TEST = """
rule_files: [rules.yml]
evaluation_interval: 1s
tests:
  - interval: 1s
    input_series:
      - {series: 'checkout_disk_used_ratio{env="production",instance="production"}', values: '0.85x5 0.9x10 0.2x5'}
      - {series: 'checkout_disk_used_ratio{env="staging",instance="staging"}', values: '0.99x20'}
    alert_rule_test:
      - {eval_time: 5s, alertname: CheckoutDiskFilling, exp_alerts: []}
      - {eval_time: 7s, alertname: CheckoutDiskFilling, exp_alerts: []}
      - eval_time: 12s
        alertname: CheckoutDiskFilling
        exp_alerts:
          - exp_labels:
              {severity: critical, service: checkout, mountpoint: /srv, env: production, instance: production}
            exp_annotations:
              summary: checkout's disk in production is 90% full
              description: /srv holds checkout's data and its log.
      - {eval_time: 20s, alertname: CheckoutDiskFilling, exp_alerts: []}
"""


def run(*command: str, cwd: Path) -> str:
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=30, check=False)
    except FileNotFoundError:
        pytest.fail(f"{command[0]} is missing: apt-get install prometheus prometheus-alertmanager")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_accepts_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(monitoring.rules())
    (tmp_path / "prometheus.yml").write_text(monitoring.prometheus_config("127.0.0.1:9093", {"staging": "127.0.0.1:1"}))

    assert "SUCCESS" in run("promtool", "check", "config", "prometheus.yml", cwd=tmp_path)


def test_the_rule_fires_for_production_alone_and_only_when_it_lasts(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(monitoring.rules())
    (tmp_path / "test.yml").write_text(RULE_TEST)

    assert "SUCCESS" in run("promtool", "test", "rules", "test.yml", cwd=tmp_path)


def test_amtool_accepts_the_configuration(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("t")
    (tmp_path / "am.yml").write_text(monitoring.alertmanager_config("http://127.0.0.1:1/alerts/alertmanager", token))

    assert "SUCCESS" in run("amtool", "check-config", "am.yml", cwd=tmp_path)
