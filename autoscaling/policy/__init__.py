"""The policy, and the instance group's autoscaler as a pure function.

Comes in: settings, signals, the time. Goes out: how many machines there should be, and why.
"""
