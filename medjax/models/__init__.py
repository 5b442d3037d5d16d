"""Networks as init and apply on parameter trees; the only folder that imports flax.

`medjax.models.qwen25vl` is a base model whose package exports its functions;
`medjax.models.denoiser` holds the small networks of `puq`.
"""
