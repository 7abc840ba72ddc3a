"""The demo's world: two target VMs, Prometheus and Alertmanager, with their keys. `demo.run` starts it; nothing here
knows Signalbox but by the values that `World` hands out."""
