"""CLIP-as-RNN: an image and some words in, masks out.

This package knows nothing of Label Studio, Redis or HTTP. `model.vocabulary` and `model.presets` import without torch;
everything else needs it. Start reading at `model.car`, the method itself, or at `model.segmenter`, its front door.
"""
