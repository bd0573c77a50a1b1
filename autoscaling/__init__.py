"""How large a fleet should be: signals, their export to Cloud Monitoring, and the policy that turns them into a size.

Comes in: what Redis, Pub/Sub's metrics and Flower say. Goes out: time series, of which an instance group's autoscaler
reads one. Next: the instance group; here, `local`'s stand-in for it. Decides nothing about single requests.
"""
