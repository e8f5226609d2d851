"""What answers a chat. `base` is the protocol; `local` computes here; `host` owns one engine and its queue of
jobs, which `runners` run on a thread of their own or on the caller's; `news` is what comes back."""
