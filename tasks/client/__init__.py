"""The client: what an application calls when it wants every answer, `infer_many` and `infer_async`.

Comes in: requests. Goes out: an outcome of each, in chunks sent and watched by one thread of the process, the `Caller`.
"""
