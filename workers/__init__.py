"""The engine behind the port: fetch, decode, batch, predict, encode, on every device of the machine.

Comes in: requests from Celery tasks. Goes out: an outcome per request. Next: whoever called the task. The only
importer of torch.
"""
