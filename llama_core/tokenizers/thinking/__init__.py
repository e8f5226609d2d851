"""Reasoning told apart from the answer, by the markers that a model puts around it.

    tags       <think> thought </think> answer
    channels   <|channel|>analysis<|message|> thought <|end|>
               <|start|>assistant<|channel|>final<|message|> answer

`formats` finds a model's markers; `tags` and `channels` read replies token by token; `base` says how.
"""
