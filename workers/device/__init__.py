"""One device: its thread, a batch on it, and the outputs told apart by item.

Comes in: a batch of decoded items. Goes out: outputs of each, or whose fault it is. Next: the threads that encode.
"""
