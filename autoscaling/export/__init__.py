"""The fleet's figures, to Cloud Monitoring and Prometheus.

Comes in: a snapshot of the fleet, Flower's figures, Pub/Sub's metric. Goes out: time series. Next: an autoscaler.
"""
