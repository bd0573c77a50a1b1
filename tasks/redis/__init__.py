"""The fleet's Redis: every key of ours, how it is reached and by whom, who is registered, what is wrong with it.

Comes in: settings. Goes out: clients of redis-py, names of keys, sentences. Next: `lowtide.tasks.held`.
"""
