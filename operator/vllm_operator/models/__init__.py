"""What a model needs: facts, KV cache layout, weights and the memory that vLLM takes."""
