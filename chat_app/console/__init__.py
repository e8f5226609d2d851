"""Chatting without the app: one-shot replies, line mode, and the streams they write to."""
