"""The engine behind `lowtide.tasks.port`: fetch → decode → batch → predict → encode.

Comes in: requests. Goes out: a future for each, that gets an outcome. The stages are threads that meet in bounded
queues; each has a file. Next: `lowtide.workers.device`.
"""
