"""The models that are shipped: `digits`, and every torchvision classification model.

Comes in: an image's bytes, and the request's params. Goes out: the best classes, each `{"index", "label", "score"}`.
Next: the engine, which batches what `decode` made and hands each row of `predict` to `encode`.
"""
