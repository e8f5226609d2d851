"""The OpenAI-compatible server. Starlette is imported only when it runs.

clients ──HTTP──► application.py ──► worker.py: one thread that owns the model
          guard.py: who may ask        └─ BatchEngine: all requests share each pass
"""
