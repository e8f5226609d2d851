"""OpenAI's API as records: what a request asks for, what an answer looks like. Batch and server speak it."""
