"""Whether this worker fails what others answer: then it takes nothing more, and says why.

Comes in: each outcome of the engine, and what other workers say of theirs. Goes out: how much may be taken, which
outcomes nobody shall get from here, and the reason. The decision is in `rule`, its steps in `standing`; `tally` counts,
`peers` asks Redis, and `guard` is the thread.
"""
